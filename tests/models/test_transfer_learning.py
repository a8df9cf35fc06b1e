"""transfer_learning.py: training, frozen layers, transforms and the prediction plot."""

import copy
import types

import pytest
import torch
from PIL import Image
from torch import nn

import transfer_learning as tl
from common.cli import UserError
from data import weights
from tests.conftest import ARCH


def toy_loaders(seed=0, classes=3):
    """Vectors of three linearly separable classes: {"train": batches, "val": batches}."""
    torch.manual_seed(seed)
    centers = 2 * torch.eye(classes, 6)

    def batches(count):
        return [(centers[y] + 0.5 * torch.randn(8, 6), y) for y in torch.randint(classes, (count, 8))]

    return {"train": batches(6), "val": batches(3)}


def toy_training(model, epochs=4, criterion=nn.functional.cross_entropy, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return tl.train_model(model, toy_loaders(), criterion, optimizer, num_epochs=epochs, **options)


def toy_model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def image_loaders(classes=2):
    torch.manual_seed(0)
    batch = torch.randn(4, 3, 64, 64), torch.arange(4) % classes
    return {"train": [batch, batch], "val": [batch]}


def network():
    torch.manual_seed(0)
    return weights.build(ARCH, 5)


def test_training_photos_are_shuffled_and_parts_evenly_spaced():
    class Split(list):
        transform = None

    photos = types.SimpleNamespace(train=Split(range(7)), val=Split(range(7)))
    loaders = tl.make_loaders(photos, (8, 8), 2, most=3)
    assert isinstance(loaders["train"].sampler, torch.utils.data.RandomSampler)
    assert [k for batch in loaders["val"] for k in batch.tolist()] == [0, 3, 6]


def test_train_model_learns_and_records_every_epoch():
    _, history = toy_training(toy_model(), 6)
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0] and history["val_accuracy"][-1] > 0.8
    assert {len(values) for values in history.values()} == {6}


def test_train_model_matches_plain_sgd_over_the_batches():
    model, loaders = nn.Linear(6, 3), toy_loaders()
    plain = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained, history = tl.train_model(model, loaders, nn.CrossEntropyLoss(), optimizer, num_epochs=1)
    losses = []
    for x, y in loaders["train"]:
        loss = nn.functional.cross_entropy(plain(x), y)
        losses.append(loss.item())
        for parameter, gradient in zip(plain.parameters(), torch.autograd.grad(loss, plain.parameters()), strict=True):
            parameter.data -= 0.1 * gradient
    assert torch.allclose(trained.weight, plain.weight) and history["train_loss"][0] == pytest.approx(sum(losses) / 6)
    right = [(plain(x).argmax(1) == y).float().mean().item() for x, y in loaders["val"]]
    assert history["val_accuracy"][0] == pytest.approx(sum(right) / 3)


def test_train_model_returns_the_weights_of_the_best_epoch():
    states, model = [], toy_model()
    model.register_forward_hook(lambda m, *_: None if m.training else states.append(copy.deepcopy(m.state_dict())))
    trained, history = toy_training(model, 5)
    best = history["val_accuracy"].index(max(history["val_accuracy"]))
    assert all(torch.equal(value, states[3 * best][key]) for key, value in trained.state_dict().items())
    assert not trained.training


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    whole, history = toy_training(toy_model(), 4)
    checkpoint = tmp_path / "checkpoint.pt"
    calls = iter(range(19))  # the training stops in the third epoch

    def criterion(scores, targets):
        next(calls)
        return nn.functional.cross_entropy(scores, targets)

    with pytest.raises(StopIteration):
        toy_training(toy_model(), 4, criterion, checkpoint=checkpoint)
    again, resumed = toy_training(toy_model(), 4, checkpoint=checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert resumed["train_loss"] == history["train_loss"]


def test_a_loss_that_is_not_finite_is_a_user_error():
    with pytest.raises(UserError, match="not finite; try a smaller learning rate"):
        toy_training(toy_model(), criterion=lambda scores, _: scores.sum() * torch.nan)


def test_finetune_trains_all_but_the_batch_norm_statistics():
    before = network()
    trained, _ = tl.finetune(copy.deepcopy(before), 2, image_loaders(), backbone_lr=0.01, num_epochs=2, lr=0.1)
    for (key, old), new in zip(before.state_dict().items(), trained.state_dict().values(), strict=True):
        if not key.startswith("fc."):
            assert torch.equal(old, new) == ("running" in key or "num_batches" in key), key
    assert trained.fc.out_features == 2


def test_finetune_uses_a_lower_rate_in_pretrained_layers(monkeypatch):
    optimizers = []
    monkeypatch.setattr(tl, "train_model", lambda *given, **options: optimizers.append(given[3]))
    tl.finetune(network(), 2, {}, backbone_lr=0.001, lr=0.1)
    tl.scratch(network(), 2, {}, lr=0.1)
    assert [group["lr"] for group in optimizers[0].param_groups] == [0.001, 0.1]
    assert [group["lr"] for group in optimizers[1].param_groups] == [0.1]
    assert sum(p.numel() for p in optimizers[0].param_groups[1]["params"]) == 2 * 1024 + 2


def test_freeze_trains_only_the_new_last_layer():
    before = network()
    trained, history = tl.freeze(copy.deepcopy(before), 2, image_loaders(), num_epochs=3, lr=0.1)
    for key, old in before.state_dict().items():
        assert key.startswith("fc.") or torch.equal(old, trained.state_dict()[key]), key
    assert [name for name, p in trained.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert history["train_loss"][-1] < history["train_loss"][0]


def test_freeze_computes_validation_features_once():
    reads = []

    class Counted(list):
        def __iter__(self):
            reads.append(len(self))
            return super().__iter__()

    tl.freeze(network(), 2, {name: Counted(batches) for name, batches in image_loaders().items()}, num_epochs=3)
    assert sorted(reads) == [1, 2, 2, 2]  # one validation batch, two training batches


def test_replace_head_needs_a_linear_last_layer():
    with pytest.raises(UserError, match="SqueezeNet ends in a"):
        tl.replace_head(weights.build("squeezenet1_1", 3), 2)


def test_visualize_model_shows_mistakes_first_up_to_half():
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, 2, bias=False))
    nn.init.eye_(model[1].weight)  # a photo's scores are its first two pixels
    photos = torch.zeros(5, 3, 5, 5)
    photos[:, 0, 0, :2] = torch.tensor([[3.0, 0], [0, 2], [1, 0], [0, 1], [0.5, 0]])
    loader = torch.utils.data.DataLoader([*zip(photos, [0, 0, 1, 1, 1], strict=True)], 2)
    wanted = {4: ["WRONG: bee", "WRONG: ant", "correct: bee", "correct: ant"], 2: ["WRONG: bee", "correct: bee"]}
    for most, shown in wanted.items():
        figure = tl.visualize_model(model, loader, ["ant", "bee"], "title", most)
        titles = [axes.get_title() for axes in figure.axes]
        assert [title.split(",")[0] for title in titles] == shown
        assert titles[0].endswith("truth: ant") and "2 of 5 correct" in figure.get_suptitle()


def test_transforms_give_the_right_sizes_and_normalized_pixels():
    train, val = tl.make_transforms(32, 40)
    photo = Image.new("RGB", (90, 60), (124, 116, 104))  # the mean color of ImageNet
    assert train(photo).shape == (3, 32, 32) and val(photo).shape == (3, 40, 40)
    assert val(photo).abs().max() < 0.02 and abs(weights.to_pixels(val(photo)) - 0.45).max() < 0.05
