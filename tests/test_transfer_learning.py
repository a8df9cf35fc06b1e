"""transfer_learning.py: frozen is frozen, the best weights are kept, a kill loses nothing, bad input is one line."""

import copy
import functools
import json
import math
import re
import shutil
from pathlib import Path

import matplotlib.colors
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import transfer_learning as tl
from data import DataError, insects, plot, results, weights
from data.results import Checkpoint
from tests import runs
from tests.conftest import ARCH, random_state, snapshot
from tests.runs import Table, check_refused, cut, equal, largest_file, without_times, world_folder, write

# ---- train_model, on toy tensors


def toy_loaders(count=40, seed=0):
    """Points of two overlapping clouds, in batches of 8."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 2
    inputs = torch.randn(count, 3, generator=generator) + targets[:, None]
    data = TensorDataset(inputs, targets)
    return {"train": DataLoader(data, 8, shuffle=True), "val": DataLoader(data, 8)}


def toy_model():
    """A linear layer behind a batch norm and a dropout, which makes random numbers and statistics matter."""
    torch.manual_seed(1)
    return nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(3, 2))


def toy_train(model, loaders, epochs=4, lr=0.1, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    return tl.train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, scheduler, epochs, **options)


def test_train_model_teaches_a_plain_linear_layer_with_any_optimizer_and_no_scheduler():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    trained, history = tl.train_model(model, toy_loaders(), nn.CrossEntropyLoss(), optimizer, num_epochs=15)
    assert trained is model and history["val_loss"][-1] < 0.7 * history["val_loss"][0]
    assert history["val_accuracy"][-1] > 0.7


def test_the_history_has_one_number_an_epoch_for_each_of_its_keys():
    _, history = toy_train(toy_model(), toy_loaders(), epochs=3)
    assert list(history) == ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"]
    assert all(len(values) == 3 and all(isinstance(v, float) for v in values) for values in history.values())


def test_the_history_holds_means_over_all_examples_however_the_batches_fall():
    model = nn.Linear(3, 2)
    inputs, targets = toy_loaders(11)["val"].dataset.tensors
    batches = {name: DataLoader(TensorDataset(inputs, targets), 4) for name in ("train", "val")}  # 4, 4 and 3
    with torch.no_grad():
        scores = model(inputs)
    _, history = toy_train(model, batches, epochs=1, lr=0.0)
    for split in ("train", "val"):
        assert history[f"{split}_loss"] == pytest.approx([nn.functional.cross_entropy(scores, targets).item()])
        assert history[f"{split}_accuracy"] == [(scores.argmax(1) == targets).sum().item() / 11]


def unlearning(epochs):
    """A linear layer that is right on val at first and is taught the opposite. Returns it trained, and its history."""
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.15], [0.15]]))
    x = torch.tensor([[1.0], [-1.0]])
    data = {"train": TensorDataset(x, torch.tensor([0, 1])), "val": TensorDataset(x, torch.tensor([1, 0]))}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loaders = {name: DataLoader(split, 2) for name, split in data.items()}
    return tl.train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, None, epochs)


def test_the_weights_of_the_best_epoch_are_kept_and_not_the_last_ones():
    model, history = unlearning(epochs=6)
    assert history["val_accuracy"][0] == 1 and history["val_accuracy"][-1] == 0
    assert (model(torch.tensor([[1.0], [-1.0]])).argmax(1) == torch.tensor([1, 0])).all()


def test_of_equally_good_epochs_the_first_is_kept():
    (model, history), (first, _) = unlearning(epochs=6), unlearning(epochs=1)
    assert history["val_accuracy"][:2] == [1, 1] and torch.equal(model.weight, first.weight)


def test_the_scenarios_share_momentum_weight_decay_and_rates_that_fall_along_a_cosine_to_zero(recipe, monkeypatch):
    rates, train = [], tl.run_epoch

    def watched(model, loader, criterion, optimizer, bar):
        if optimizer:
            group = optimizer.param_groups[0]
            rates.append(group["lr"])
            assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-3)
        return train(model, loader, criterion, optimizer, bar)

    monkeypatch.setattr(tl, "run_epoch", watched)
    model, recipe.epochs, recipe.lr = toy_model(), 4, 0.1
    tl.fit(model, [{"params": model.parameters()}], toy_loaders(), recipe, None, "toy")
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])


def test_every_epoch_draws_random_numbers_of_its_own(monkeypatch):
    seen, seed_all = [], results.seed_all
    monkeypatch.setattr(results, "seed_all", lambda *parts: seen.append(parts) or seed_all(*parts))
    toy_train(toy_model(), toy_loaders(), epochs=3, seed=5)
    assert seen == [(5, 0), (5, 1), (5, 2)]


def test_the_model_comes_back_in_evaluation_mode():
    model, _ = toy_train(toy_model(), toy_loaders(), epochs=1)
    assert not any(module.training for module in model.modules())


def test_a_module_that_came_in_evaluation_mode_stays_in_it_and_the_others_train_in_every_epoch():
    model, seen = toy_model().train(), []
    model[0].eval()
    model[2].register_forward_hook(lambda *_: seen.append([module.training for module in model]))
    before = copy.deepcopy(model[0].state_dict())
    toy_train(model, toy_loaders(), epochs=3)
    train, val = [[False, True, True]] * 5, [[False, False, False]] * 5
    assert seen == (train + val) * 3
    assert all(torch.equal(value, before[key]) for key, value in model[0].state_dict().items() if "running" in key)


def test_validation_changes_nothing_in_the_model():
    model = toy_model()
    before = copy.deepcopy(model.state_dict())
    toy_train(model, {**toy_loaders(), "train": [(torch.zeros(2, 3), torch.tensor([0, 1]))]}, epochs=1, lr=0.0)
    after = model.state_dict()
    assert after["0.num_batches_tracked"] == before["0.num_batches_tracked"] + 1  # by the one training batch


def test_a_diverging_loss_is_a_dataerror_that_names_the_flag():
    with pytest.raises(DataError, match="loss is no longer a number.*--lr"):
        toy_train(nn.Linear(3, 2), toy_loaders(), lr=float("inf"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_loss_of_nan_is_a_dataerror_in_training_and_in_validation(split):
    nan = [(torch.full((2, 3), float("nan")), torch.tensor([0, 1]))]
    with pytest.raises(DataError, match="loss is no longer a number"):
        toy_train(nn.Linear(3, 2), {**toy_loaders(), split: nan})


def test_the_same_seed_gives_the_same_history_and_weights_whatever_was_drawn_before():
    first, history = toy_train(toy_model(), toy_loaders(), seed=5)
    torch.rand(100)
    second, again = toy_train(toy_model(), toy_loaders(), seed=5)
    assert without_times(history) == without_times(again) and equal(first.state_dict(), second.state_dict())


def test_another_seed_gives_another_history():
    assert (
        toy_train(toy_model(), toy_loaders(), seed=5)[1]["train_loss"]
        != (toy_train(toy_model(), toy_loaders(), seed=6)[1]["train_loss"])
    )


class Interrupted(Exception):
    pass


class BreaksOff:
    """A loader that breaks off in the middle of its n-th pass."""

    def __init__(self, loader, passes):
        self.loader, self.left = loader, passes

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.left -= 1
        for k, batch in enumerate(self.loader):
            if self.left == 0 and k == 2:
                raise Interrupted
            yield batch


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_resumed_from_a_checkpoint_weights_and_history_are_bit_equal_to_an_undisturbed_run(tmp_path, split, epoch):
    checkpoint, loaders = Checkpoint(tmp_path / "c.pt", {}), toy_loaders()
    undisturbed, history = toy_train(toy_model(), loaders)
    with pytest.raises(Interrupted):
        toy_train(toy_model(), {**loaders, split: BreaksOff(loaders[split], epoch)}, checkpoint=checkpoint)
    resumed, resumed_history = toy_train(toy_model(), loaders, checkpoint=checkpoint)
    assert without_times(resumed_history) == without_times(history)
    assert equal(resumed.state_dict(), undisturbed.state_dict())


def test_resuming_keeps_the_best_weights_from_before_the_checkpoint(tmp_path):
    loaders = {name: [(torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1]))] for name in ("train", "val")}
    model, other = nn.Linear(1, 2), nn.Linear(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    checkpoint = Checkpoint(tmp_path / "c.pt", {})
    tl.train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, None, 1, checkpoint=checkpoint)
    saved = checkpoint.load()
    saved["best"] = other.state_dict()
    saved["history"]["val_accuracy"] = [1.5]  # better than any epoch to come
    checkpoint.save(saved)
    tl.train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, None, 3, checkpoint=checkpoint)
    assert equal(model.state_dict(), other.state_dict())


def test_a_finished_training_is_not_trained_again(tmp_path):
    checkpoint, loaders = Checkpoint(tmp_path / "c.pt", {}), toy_loaders()
    first, history = toy_train(toy_model(), loaders, checkpoint=checkpoint)
    never = {name: BreaksOff(loader, 1) for name, loader in loaders.items()}
    again, same_history = toy_train(toy_model(), never, checkpoint=checkpoint)
    assert history == same_history and equal(first.state_dict(), again.state_dict())


# ---- the scenarios


@pytest.fixture(scope="module")
def loaders(tiny_photos, tmp_path_factory):
    """The tiny photos at 64 pixels, 5 a batch."""
    return tl.make_loaders(insects.load(None, tiny_photos, tmp_path_factory.mktemp("cache")), (64, 73), 5)


def pretrained_network(arch=ARCH):
    network = weights.build(arch, 10)
    network.load_state_dict(random_state(arch))
    return network


@pytest.fixture
def optimizers(monkeypatch):
    """The optimizers that training uses, as they come."""
    seen, train_model = [], tl.train_model

    def spy(model, loaders, criterion, optimizer, *rest):
        seen.append(optimizer)
        return train_model(model, loaders, criterion, optimizer, *rest)

    monkeypatch.setattr(tl, "train_model", spy)
    return seen


def in_optimizer(optimizer):
    return [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]


@pytest.mark.parametrize("arch, head", [(ARCH, "fc"), ("resnet18", "fc"), ("mobilenet_v3_small", "classifier.3")])
def test_frozen_is_frozen_every_other_tensor_is_bit_equal_after_training(loaders, recipe, arch, head):
    network = pretrained_network(arch)
    before = copy.deepcopy(network.state_dict())
    network, _ = tl.freeze(network, 2, loaders, recipe)
    after = network.state_dict()
    others = [key for key in before if not key.startswith(head + ".")]
    assert after.keys() == before.keys() and any("running_var" in key for key in others)
    assert [key for key in others if not torch.equal(before[key], after[key])] == []


def test_the_new_layer_of_the_frozen_network_is_random_and_does_move(loaders, recipe):
    recipe.lr = 0.0
    torch.manual_seed(3)
    start = copy.deepcopy(tl.freeze(pretrained_network(), 2, loaders, recipe)[0].fc)
    recipe.lr = 0.02
    torch.manual_seed(3)
    end = tl.freeze(pretrained_network(), 2, loaders, recipe)[0].fc
    assert start.weight.std() > 0 and end.out_features == 2 and not torch.equal(start.weight, end.weight)


def test_nothing_outside_of_the_new_layer_has_gradients(loaders, recipe):
    network, _ = tl.freeze(pretrained_network(), 2, loaders, recipe)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"fc.weight", "fc.bias"}
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} <= trained


def test_the_optimizer_of_freeze_holds_the_new_layer_only(loaders, recipe, optimizers):
    network, _ = tl.freeze(pretrained_network(), 2, loaders, recipe)
    [optimizer] = optimizers
    assert in_optimizer(optimizer) == [id(network.fc.weight), id(network.fc.bias)]
    assert len(optimizer.state) <= 2


def val_scores(network, loaders):
    with torch.no_grad():
        pairs = [(network.eval()(inputs), targets) for inputs, targets in loaders["val"]]
    return torch.cat([scores for scores, _ in pairs]), torch.cat([targets for _, targets in pairs])


@pytest.mark.parametrize("scenario", tl.SCENARIOS)
def test_the_networks_own_scores_on_val_are_those_of_the_historys_best_epoch(loaders, recipe, scenario):
    recipe.epochs = 3
    network, history = tl.SCENARIOS[scenario](pretrained_network(), 2, loaders, recipe)
    scores, targets = val_scores(network, loaders)
    best = history["val_accuracy"].index(max(history["val_accuracy"]))
    assert (scores.argmax(1) == targets).float().mean().item() == pytest.approx(history["val_accuracy"][best])
    assert nn.functional.cross_entropy(scores, targets).item() == pytest.approx(history["val_loss"][best], rel=1e-4)


def test_the_frozen_network_sees_the_training_photos_once_an_epoch_and_the_validation_photos_once(loaders, recipe):
    network, batches = pretrained_network(), []
    network.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))
    recipe.epochs = 3
    tl.freeze(network, 2, loaders, recipe)
    assert sum(batches) == 3 * 12 + 8


def test_freeze_gives_the_weights_that_training_the_head_inside_the_network_gives(loaders, recipe):
    network = pretrained_network()
    torch.manual_seed(3)
    shortcut, history = tl.freeze(copy.deepcopy(network), 2, loaders, recipe)
    torch.manual_seed(3)
    name, head = tl.replace_head(network, 2)
    network.eval().requires_grad_(False)
    head.requires_grad_(True)
    _, plain = tl.fit(network, [{"params": head.parameters()}], loaders, recipe, None, "plain")
    torch.testing.assert_close(shortcut.fc.weight, network.fc.weight, rtol=1e-4, atol=1e-6)
    assert history["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-4)


def test_finetune_moves_every_layer_and_leaves_the_batch_norm_statistics(loaders, recipe):
    network = pretrained_network()
    before = copy.deepcopy(network.state_dict())
    after = tl.finetune(network, 2, loaders, recipe)[0].state_dict()
    layers = {key for key, value in before.items() if value.ndim == 4}
    buffers = {key for key in before if re.search("running_mean|running_var|num_batches_tracked", key)}
    assert [key for key in layers if torch.equal(before[key], after[key])] == []
    assert [key for key in buffers if not torch.equal(before[key], after[key])] == []


def test_finetune_takes_small_steps_on_the_pretrained_layers_and_large_ones_on_the_new_layer(
    loaders, recipe, optimizers
):
    network, _ = tl.finetune(pretrained_network(), 2, loaders, recipe)
    rates = {id(p): group["initial_lr"] for group in optimizers[0].param_groups for p in group["params"]}
    assert {name: rates[id(parameter)] for name, parameter in network.named_parameters()} == {
        name: recipe.lr if name.startswith("fc.") else recipe.backbone_lr for name, _ in network.named_parameters()
    }


def test_scratch_trains_every_layer_at_the_full_rate_and_estimates_the_batch_norm_statistics(
    loaders, recipe, optimizers
):
    network = weights.build(ARCH, 10)
    before = copy.deepcopy(network.state_dict())
    network, _ = tl.scratch(network, 2, loaders, recipe)
    after = network.state_dict()
    assert sorted(in_optimizer(optimizers[0])) == sorted(id(parameter) for parameter in network.parameters())
    assert {group["initial_lr"] for group in optimizers[0].param_groups} == {recipe.lr}
    statistics = [key for key in before if "running" in key]
    assert statistics and not any(torch.equal(before[key], after[key]) for key in statistics)


@pytest.mark.parametrize("scenario", tl.SCENARIOS)
def test_a_scenario_resumed_from_its_checkpoint_gives_a_bit_equal_network(loaders, recipe, scenario, tmp_path):
    def run(loaders, checkpoint=None):
        torch.manual_seed(3)
        return tl.SCENARIOS[scenario](pretrained_network(), 2, loaders, recipe, checkpoint)

    undisturbed, history = run(loaders)
    checkpoint = Checkpoint(tmp_path / "c.pt", {})
    with pytest.raises(Interrupted):
        run({**loaders, "train": BreaksOff(loaders["train"], 2)}, checkpoint)
    resumed, resumed_history = run(loaders, checkpoint)
    assert without_times(resumed_history) == without_times(history)
    assert equal(resumed.state_dict(), undisturbed.state_dict())


# ---- replacing the last layer


def check_replaced(arch, device="meta"):
    """The network's output has the new number of classes, and nothing else was replaced."""
    size = 299 if arch == "inception_v3" else 224
    with torch.device(device), torch.no_grad():
        network = weights.without_auxiliaries(weights.build(arch, 10)).eval()
        before = {id(parameter) for parameter in network.parameters()}
        name, head = tl.replace_head(network, 3)
        assert network(torch.zeros(2, 3, size, size)).shape == (2, 3)
    assert isinstance(head, nn.Linear) and network.get_submodule(name) is head
    assert {id(p) for p in network.parameters()} - before == {id(p) for p in head.parameters()}


FAMILIES = ["resnet18", "vgg11", "densenet121", "mobilenet_v3_small", ARCH, "googlenet", "inception_v3", "vit_b_16"]
OTHERS = [name for name in weights.classifiers() if not name.startswith(("squeezenet", "regnet"))]


@pytest.mark.parametrize("arch", FAMILIES)
def test_the_last_layer_of_any_family_is_replaced_and_it_alone(arch):
    check_replaced(arch)


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_family_takes_photos_of_the_training_size_and_of_the_validation_size(arch):
    found = weights.Weights(arch, {}, arch, False)
    assert (found.image_size, found.val_size) in {(224, 256), (224, 224)}
    for side in (found.image_size, found.val_size):
        with torch.device("meta"):
            network = weights.without_auxiliaries(weights.build(arch, 3)).eval()
            assert network(torch.zeros(2, 3, side, side)).shape == (2, 3)


def test_the_last_layer_of_a_regnet_which_cannot_be_built_without_memory_is_replaced():
    check_replaced("regnet_y_400mf", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted({*OTHERS} - {*FAMILIES}))
def test_the_last_layer_of_every_other_torchvision_classifier_but_squeezenet_is_replaced(arch):
    check_replaced(arch)


def test_a_squeezenet_which_ends_in_no_fully_connected_layer_is_a_dataerror_that_names_the_layer():
    with torch.device("meta"):
        network = weights.build("squeezenet1_1", 10)
    with pytest.raises(DataError, match="--arch: SqueezeNet ends in a layer of the kind AdaptiveAvgPool2d"):
        tl.replace_head(network, 2)


# ---- Features


@pytest.fixture
def frozen():
    """A layer that notes how many batches it saw."""
    torch.manual_seed(0)
    layer, seen = nn.Linear(3, 4), []
    layer.register_forward_hook(lambda *_: seen.append(1))
    layer.seen = seen
    return layer


@pytest.mark.parametrize("keep", [True, False])
def test_features_are_the_frozen_networks_outputs_in_every_pass(frozen, keep):
    loader = toy_loaders()["val"]
    features = tl.Features(frozen, loader, keep)
    for _ in range(2):
        got = list(features)
        assert len(got) == len(features) == 5
        for (values, targets), (inputs, expected) in zip(got, loader, strict=True):
            assert torch.equal(values, frozen(inputs)) and torch.equal(targets, expected)


def test_kept_features_are_computed_once_and_others_in_every_pass(frozen):
    loader = toy_loaders()["val"]
    kept, fresh = tl.Features(frozen, loader, keep=True), tl.Features(frozen, loader)
    for features, expected in ((kept, 5), (fresh, 15)):
        frozen.seen.clear()
        for _ in range(3):
            list(features)
        assert len(frozen.seen) == expected


def test_a_pass_that_was_broken_off_is_not_kept(frozen):
    features = tl.Features(frozen, toy_loaders()["val"], keep=True)
    next(iter(features))
    assert len(list(features)) == len(list(features)) == 5


def test_a_layer_can_be_trained_on_features(frozen):
    head = nn.Linear(4, 2)
    head(next(iter(tl.Features(frozen, toy_loaders()["val"])))[0]).sum().backward()
    assert head.weight.grad is not None and frozen.weight.grad is None


# ---- loaders


def test_validation_photos_are_the_same_in_every_pass_and_training_photos_are_not(loaders):
    def passes(name):
        torch.manual_seed(0)
        return [loaders[name].dataset[0][0] for _ in range(2)]

    assert torch.equal(*passes("val")) and not torch.equal(*passes("train"))


@pytest.mark.parametrize("size", [(300, 200), (50, 90), (64, 64)])
def test_training_and_validation_photos_are_squares_of_the_sizes_asked_for(size):
    train, val = tl.make_transforms(56, 64)
    photo = Image.new("RGB", size)
    assert (train(photo).shape, val(photo).shape) == ((3, 56, 56), (3, 64, 64))


def test_training_photos_come_in_a_random_order_and_validation_photos_in_theirs(loaders):
    def targets(name):
        return torch.cat([batch for _, batch in loaders[name]]).tolist()

    assert targets("val") == [0] * 4 + [1] * 4
    torch.manual_seed(0)
    orders = {tuple(targets("train")) for _ in range(3)}
    assert len(orders) > 1 and all(sorted(order) == [0] * 6 + [1] * 6 for order in orders)


def test_a_quick_runs_photos_are_spread_over_the_classes(tiny_photos, tmp_path):
    quick = tl.make_loaders(insects.load(None, tiny_photos, tmp_path), (32, 36), 4, most=4)
    for loader in quick.values():
        targets = torch.cat([batch for _, batch in loader]).tolist()
        assert len(targets) == 4 and sorted(targets) == [0, 0, 1, 1]


# ---- pictures


class Says(nn.Module):
    """Gives image k of a list the k-th probability for class 1; the image's value tells k."""

    def __init__(self, probabilities):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(probabilities).logit())

    def forward(self, images):
        score = self.scores[images[:, 0, 0, 0].long()]
        return torch.stack([torch.zeros_like(score), score], 1)


def pictured(probabilities, targets, **options):
    images = torch.arange(len(targets)).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).float()
    loader = DataLoader(TensorDataset(images, torch.tensor(targets)), 2)
    return tl.visualize_model(Says(probabilities), loader, ["ants", "bees"], "the title", **options)


def test_mistakes_come_first_the_surest_at_the_head_then_the_least_sure_of_the_right_ones():
    figure = pictured([0.9, 0.3, 0.8, 0.6, 0.95], [1, 1, 0, 1, 0])
    assert [axes.get_title().split("\n") for axes in figure.axes] == [
        ["WRONG: bees, 95%", "truth: ants"],
        ["WRONG: bees, 80%", "truth: ants"],
        ["WRONG: ants, 70%", "truth: bees"],
        ["right: bees, 60%", "truth: bees"],
        ["right: bees, 90%", "truth: bees"],
    ]


def test_mistakes_have_a_frame_and_a_colour_and_the_right_ones_have_not():
    wrong, right = pictured([0.9, 0.9], [0, 1]).axes
    assert all(spine.get_visible() for spine in wrong.spines.values())
    assert not any(spine.get_visible() for spine in right.spines.values())
    assert wrong.title.get_color() != right.title.get_color()


def test_the_title_counts_all_mistakes_and_not_only_the_pictured_ones():
    figure = pictured([0.9] * 6, [0, 0, 0, 0, 1, 1], num_images=2)
    assert len(figure.axes) == 2 and figure.get_suptitle().startswith("the title")
    assert "4 of 6 wrong" in figure.get_suptitle()


def test_a_model_without_mistakes_is_pictured_too():
    assert "0 of 1 wrong" in pictured([0.9], [1]).get_suptitle()


def test_pixels_are_what_they_were_before_they_were_normalized():
    photo = Image.effect_noise((72, 72), 90).convert("RGB")
    photo.paste((255, 0, 128), (10, 20, 40, 30))
    normalized = tl.make_transforms(56, 64)[1](photo)  # keeps 72 pixels and cuts out the middle 64
    expected = torch.tensor(list(photo.crop((4, 4, 68, 68)).tobytes())).view(64, 64, 3) / 255
    torch.testing.assert_close(torch.tensor(tl.to_pixels(normalized)), expected, atol=1e-3, rtol=0)


HISTORY = {"train_loss": [0.7, 0.5], "train_accuracy": [0.5, 0.75], "val_loss": [0.6, 0.4], "val_accuracy": [0.5, 1.0]}


def test_the_learning_curves_show_every_scenario_in_loss_and_accuracy_train_dashed_and_val_solid():
    figure = tl.plot_curves({"finetune": HISTORY, "freeze": HISTORY}, 0.6, "the title")
    for axes, key, scale in zip(figure.axes, ("loss", "accuracy"), (1, 100), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        chance = lines.pop("always the commonest class", None)
        assert chance is None if key == "loss" else list(chance.get_ydata()) == [60, 60]
        assert set(lines) == {f"{name}, {split}" for name in ("finetune", "freeze") for split in ("train", "val")}
        for split, style in (("train", "--"), ("val", "-")):
            line = lines[f"freeze, {split}"]
            assert line.get_linestyle() == style and list(line.get_xdata()) == [1, 2]
            assert list(line.get_ydata()) == [scale * value for value in HISTORY[f"{split}_{key}"]]
        assert key in axes.get_ylabel() and axes.get_xlabel() == "epoch"
    assert len(figure.legends[0].get_texts()) == 5 and figure.get_suptitle() == "the title"


def test_the_confusion_plot_writes_every_count_in_its_cell():
    [axes] = tl.plot_confusion({"freeze": [[5, 1], [2, 4]]}, ["ants", "bees"], "the title").axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "5", (1, 0): "1", (0, 1): "2", (1, 1): "4"}
    assert axes.get_ylabel() == "true class" and axes.get_xlabel() == "predicted class"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ants", "bees"]


@pytest.mark.parametrize(
    "share, count, low, high",
    [(0.5, 100, 0.4038, 0.5962), (0.9, 10, 0.5958, 0.9821), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0)],
)
def test_the_interval_of_a_share_is_wilsons(share, count, low, high):
    assert results.wilson_interval(share, count) == pytest.approx((low, high), abs=1e-4)


# ---- the whole script


@pytest.fixture
def flags(tiny_flags):
    """What every run below is given: `--results` and the rest come behind it, and the last one counts."""
    return tiny_flags("transfer_learning")


@pytest.fixture
def finished_run(finished_runs):
    """A run of all three scenarios: its results folder, its figures, what it printed. Not to be changed."""
    return finished_runs("transfer_learning")


@pytest.fixture
def finished(finished_copy):
    """A copy of the finished run's results to write to."""
    return finished_copy("transfer_learning")


read = functools.partial(runs.read, name="transfer_learning")


def test_a_run_leaves_its_plots_its_models_and_results_json_and_nothing_else(finished_run):
    names = {f"visualize_{name}.png" for name in tl.SCENARIOS} | {f"{name}.pt" for name in tl.SCENARIOS}
    assert set(snapshot(finished_run.folder)) == names | {"learning_curves.png", "confusion.png", "results.json"}


def test_results_json_of_a_run_names_the_photos_the_weights_and_the_scenarios(finished_run):
    saved = read(finished_run.results)
    assert "garden" in saved["data"] and ARCH in saved["weights"]
    assert saved["metrics"].keys() == set(tl.SCENARIOS) and saved["seconds"].keys() == {*tl.SCENARIOS, "total"}
    assert [row[0] for row in saved["table"]["rows"]] == list(tl.SCENARIOS)


def test_the_lines_of_the_learning_curves_have_colours_that_colour_blind_eyes_tell_apart(finished_run):
    lines = finished_run.figures["learning_curves.png"].axes[0].lines
    colors = {matplotlib.colors.to_hex(line.get_color()).upper() for line in lines}
    assert len(colors) == 3 and colors <= set(plot.COLORS)


def test_the_metrics_are_those_of_the_history_and_the_confusion_counts(finished_run):
    for figures in read(finished_run.results)["metrics"].values():
        history = figures["history"]["val_accuracy"]
        assert figures["best_val_accuracy"] == max(history) == history[figures["best_epoch"] - 1]
        assert figures["last_val_accuracy"] == history[-1] and len(history) == 2
        assert [sum(row) for row in figures["confusion"]] == [4, 4] and figures["val_photos"] == 8
        right = figures["confusion"][0][0] + figures["confusion"][1][1]
        assert right / 8 == figures["best_val_accuracy"]


def test_a_frozen_run_trains_the_new_layer_only_and_the_others_all_parameters(finished_run):
    trained = {name: figures["trained_parameters"] for name, figures in read(finished_run.results)["metrics"].items()}
    everything = sum(parameter.numel() for parameter in weights.build(ARCH, 2).parameters())
    assert trained == {"finetune": everything, "freeze": 2 * 1024 + 2, "scratch": everything}


@pytest.mark.parametrize("scenario", tl.SCENARIOS)
def test_a_saved_model_predicts_what_the_run_reported(finished_run, tiny_photos, tmp_path, scenario):
    model, saved = tl.load_model(finished_run.folder / f"{scenario}.pt")
    assert (saved["arch"], saved["classes"], saved["scenario"]) == (ARCH, ["ants", "bees"], scenario)
    val = tl.make_loaders(insects.load(None, tiny_photos, tmp_path), (64, saved["val_size"]), 6)["val"]
    probabilities, targets = tl.predict(model, val)
    right = (probabilities.argmax(1) == targets).float().mean().item()
    assert right == read(finished_run.results)["metrics"][scenario]["best_val_accuracy"]


# what "train" of the command line is when only the shortest run is needed
SHORT = ["--scenarios", "freeze", "--epochs", 1]


def test_a_run_prints_its_data_and_its_weights(finished_run):
    out = finished_run.out
    assert out.startswith("data: ") and "12 to train and 8 to validate" in out
    assert re.search(rf"^weights: {ARCH} ", out, re.MULTILINE)


def test_quick_goes_to_a_folder_of_its_own_and_leaves_the_full_run_alone(flags, finished, command):
    before = snapshot(finished / "transfer_learning")
    given = [word for pair in zip(flags[::2], flags[1::2], strict=True) if pair[0] != "--epochs" for word in pair]
    assert command(tl.main, *given, "--scenarios", "freeze", "--quick", "--results", finished).status == 0
    saved = json.loads((finished / "transfer_learning-quick" / "results.json").read_text())
    assert saved["settings"]["quick"] and saved["settings"]["epochs"] == 2
    assert snapshot(finished / "transfer_learning") == before


def test_three_classes_in_mixed_formats_are_told_apart_in_one_run(flags, photos, tmp_path, command):
    suffixes = {"ants": "jpg", "bees": "bmp"}
    for path in list(photos.rglob("*.png")):
        Image.open(path).save(path.with_suffix("." + suffixes[path.parent.name]))
        path.unlink()
    for split, count in (("train", 4), ("val", 3)):
        folder = photos / split / "Käfer & Co"
        folder.mkdir()
        for k, (mode, suffix) in enumerate([("L", "png"), ("RGBA", "webp"), ("P", "gif"), ("CMYK", "tif")][:count]):
            Image.effect_noise((50 + 9 * k, 40), 60).convert("RGB").convert(mode).save(folder / f"{k}.{suffix}")
    done = command(tl.main, *flags, *SHORT, "--photos", photos, "--results", tmp_path / "results")
    assert done.status == 0, done.err
    metrics = read(tmp_path / "results")["metrics"]["freeze"]
    assert [sum(row) for row in metrics["confusion"]] == [3, 4, 4]
    _, saved = tl.load_model(tmp_path / "results" / "transfer_learning" / "freeze.pt")
    assert saved["classes"] == ["Käfer & Co", "ants", "bees"]


def test_weights_for_evaluation_only_are_refused_for_finetune_in_one_line_and_taken_for_freeze(
    flags, tmp_path, command
):
    plain = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
    state = {key: plain.get(key.rpartition(".")[2], torch.clone)(value) for key, value in random_state(ARCH).items()}
    (tmp_path / "data" / "weights").mkdir(parents=True)
    torch.save(state, tmp_path / "data" / "weights" / f"{ARCH}.pth")
    given = [*flags, "--data", tmp_path / "data", "--epochs", 1, "--results", tmp_path / "results"]
    check_refused(command, tl.main, given, "--scenarios freeze", tmp_path)
    assert command(tl.main, *given, "--scenarios", "freeze").status == 0


def test_the_real_resnet50_is_refused_for_training(flags, hw2_data, tmp_path, command):
    argv = [*flags, "--data", hw2_data, "--arch", "resnet50", "--results", tmp_path / "results"]
    check_refused(command, tl.main, argv, "resnet50", tmp_path)


@pytest.fixture
def stops_early(monkeypatch):
    """A run ends in an error where it would begin to train."""

    def stop(*_, **__):
        raise DataError("far enough")

    monkeypatch.setattr(tl, "make_loaders", stop)


def test_the_real_photos_and_weights_are_the_ones_that_a_data_folder_gives(hw2_data, tmp_path, stops_early, command):
    done = command(tl.main, "--data", hw2_data, "--results", tmp_path)
    assert "hymenoptera_data" in done.out and "weights: resnet18 (resnet18.pth" in done.out
    assert "warning" not in done.out and done.err.endswith("error: far enough\n")


def test_ones_own_photos_with_weights_that_learned_from_drawings_are_warned_of(
    photos, tmp_path, weights_folder, stops_early, monkeypatch, command
):
    monkeypatch.setattr(weights, "BUILTIN", weights_folder / "weights")
    done = command(tl.main, "--data", "builtin", "--photos", photos, "--results", tmp_path)
    assert "warning: " in done.out and "python -m data.download weights" in done.out
    assert "far enough" in done.err


def test_weights_that_learned_from_photos_are_not_warned_of(flags, tmp_path, stops_early, command):
    assert "warning" not in command(tl.main, *flags, "--results", tmp_path).out


# ---- predictions


def test_predict_prints_the_classes_and_probabilities_of_a_model_file_and_saves_a_picture(
    finished_run, tiny_photos, tmp_path, command
):
    path, model = sorted(tiny_photos.rglob("*.png"))[0], finished_run.folder / "finetune.pt"
    done = command(tl.main, "--predict", path, "--model", model, "--results", tmp_path)
    network, saved = tl.load_model(model)
    photo = tl.make_transforms(64, saved["val_size"])[1](insects.open_photo(path))
    chance = network.eval()(photo[None]).softmax(1)[0]
    order = chance.argsort(descending=True)
    row = rf"^{re.escape(str(path))}  +{saved['classes'][order[0]]}  +" + ", ".join(
        rf"{saved['classes'][k]} {100 * chance[k]:.1f}%" for k in order
    )
    assert done.status == 0 and done.err == "" and re.search(row, done.out, re.MULTILINE)
    assert str(model) in done.out and "finetune" in done.out
    assert set(snapshot(tmp_path)) == {"transfer_learning", "transfer_learning/predictions.png"}
    with Image.open(tmp_path / "transfer_learning" / "predictions.png") as picture:
        assert picture.format == "PNG"


def test_predict_takes_the_full_freeze_model_unless_quick_or_alone_and_says_which(finished, tiny_photos, command):
    full, quick = finished / "transfer_learning", finished / "transfer_learning-quick"
    shutil.copytree(full, quick)
    argv = ["--predict", next(tiny_photos.rglob("*.png")), "--results", finished]
    assert f"model: {full / 'freeze.pt'} " in command(tl.main, *argv).out
    assert f"model: {quick / 'freeze.pt'} " in command(tl.main, *argv, "--quick").out
    shutil.rmtree(full)
    assert f"model: {quick / 'freeze.pt'} " in command(tl.main, *argv).out


def test_predict_takes_the_models_that_the_last_run_trained_where_freeze_was_not_among_them(
    finished, tiny_photos, command
):
    folder = finished / "transfer_learning"
    argv = ["--predict", next(tiny_photos.rglob("*.png")), "--results", finished]
    for gone, taken in (("freeze", "finetune"), ("finetune", "scratch")):
        (folder / f"{gone}.pt").unlink()
        assert f"model: {folder / f'{taken}.pt'} " in command(tl.main, *argv).out


def test_predict_takes_several_photos_of_any_size_and_leaves_the_run_alone(finished, tmp_path, command):
    before = snapshot(finished)
    names = []
    for size, mode in (((30, 200), "L"), ((500, 20), "RGBA"), ((64, 64), "P"), ((33, 44), "RGB"), ((90, 9), "1")):
        names.append(tmp_path / f"a photo {size}.png")
        Image.effect_noise(size, 50).convert(mode).save(names[-1])
    done = command(tl.main, "--predict", *names, "--results", finished)
    after = snapshot(finished)
    assert done.status == 0 and all(done.out.count(str(name)) == 1 for name in names)
    assert after.pop("transfer_learning/predictions.png")
    assert after == before


def test_no_room_to_predict_leaves_no_picture(finished_run, tiny_photos, tmp_path, command):
    argv = ["--predict", next(tiny_photos.rglob("*.png")), "--model", finished_run.folder / "freeze.pt"]
    with largest_file(1000):
        done = command(tl.main, *argv, "--results", tmp_path)
    assert done.status == 2 and done.err == (
        f"error: {tmp_path / 'transfer_learning' / 'predictions.png'}: File too large\n"
    )
    assert not any(content for content in snapshot(tmp_path).values())


# ---- bad input


class World:
    """Good input to spoil: photos of one's own, weights, an earlier run's results."""

    def __init__(self, flags, photos, tmp_path, finished_run):
        self.flags, self.photos = [*flags, *SHORT, "--photos", photos], photos
        self.tmp, self.run = tmp_path, finished_run
        self.results = world_folder(tmp_path, "transfer_learning")

    def train(self, *more):
        return [*self.flags, "--results", self.results, *more]

    def data(self, name, make=lambda path: None, below=""):
        """A run on a `--data` folder of that name, which `make` makes; and what it lacks."""
        make(self.tmp / name)
        return ["--data", self.tmp / name, "--results", self.results], self.tmp / name / below

    def spoil(self, name, change):
        """A run on photos of which `change` spoilt a file or folder; and that."""
        change(self.photos / name)
        return self.train(), self.photos / name

    def model(self, **changed):
        """--predict with a model file, some of whose content is changed; and the file."""
        saved = torch.load(self.run.folder / "freeze.pt", weights_only=True)
        path = write(self.tmp / "model.pt", {**saved, **changed})
        return ["--predict", next(self.photos.rglob("*.png")), "--model", path, "--results", self.results], path


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


def one_class_only(photos):
    for split in ("train", "val"):
        shutil.rmtree(photos / split / "bees")


def photos_without_classes(train):
    shutil.rmtree(train)
    shutil.copytree(train.parent / "val" / "bees", train)


BAD = Table({
    "--data names a missing folder": lambda w: w.data("nosuch"),
    "--data names a file": lambda w: w.data("file", Path.touch),
    "--data without the set in it": lambda w: w.data("empty", Path.mkdir),
    "--data with half of the set in it": lambda w: w.data(
        "half", lambda path: (path / "hymenoptera_data" / "train").mkdir(parents=True), "hymenoptera_data"
    ),
    "a photo cut short": lambda w: w.spoil("val/bees/bees2.png", cut),
    "a JPEG photo cut short": lambda w: w.spoil(
        "train/ants/cut.jpg", lambda path: [Image.effect_noise((64, 64), 90).save(path), cut(path)]
    ),
    "a text file named .jpg": lambda w: w.spoil("train/ants/note.jpg", lambda path: path.write_text("no photo")),
    "an empty file named .png": lambda w: w.spoil("train/bees/empty.png", Path.touch),
    "a class without photos in train": lambda w: w.spoil("train/ants", emptied),
    "a class without photos in val": lambda w: w.spoil("val/bees", emptied),
    "one class only": lambda w: w.spoil("", one_class_only),
    "train and val with different classes": lambda w: w.spoil(
        "", lambda photos: (photos / "val" / "bees").rename(photos / "val" / "wasps")
    ),
    "a class in val only": lambda w: (
        w.spoil("", lambda photos: shutil.copytree(photos / "val" / "bees", photos / "val" / "wasps"))[0], "'wasps'"
    ),
    "no val": lambda w: w.spoil("val", shutil.rmtree),
    "no train": lambda w: w.spoil("train", shutil.rmtree),
    "photos without class folders": lambda w: w.spoil("train", photos_without_classes),
    "--model without a layer": lambda w: w.model(
        state={key: value for key, value in random_state(ARCH, 2).items() if key != "fc.bias"}
    ),
    "--model of an unknown architecture": lambda w: w.model(arch="nosuch"),
    "--model with classes too many": lambda w: w.model(classes=["a", "b", "c"]),
    "--model with parts of the wrong kind": lambda w: w.model(classes=2, arch=3),
    "--model with an image size of the wrong kind": lambda w: w.model(val_size="large"),
    "--model with no image size": lambda w: w.model(val_size=0),
})  # fmt: skip


@BAD.case("weights of an architecture without a layer to replace")
def _(world):
    torch.manual_seed(0)
    write(world.tmp / "data" / "weights" / "squeezenet1_1.pth", weights.build("squeezenet1_1", 4).state_dict())
    return world.train("--data", world.tmp / "data", "--arch", "squeezenet1_1"), "AdaptiveAvgPool2d"


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_on_stderr_and_status_2_and_changes_no_result(
    case, flags, photos, tmp_path, finished_run, command
):
    argv, named = BAD[case](World(flags, photos, tmp_path, finished_run))
    check_refused(command, tl.main, argv, named, tmp_path)
