"""data/pretrain.py: the built-in weights can be made again, and what is stored is the network that was trained."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from data import pretrain
from data.results import Checkpoint, seed_all
from data.weights import build, read
from tests.conftest import ARCH, snapshot
from tests.runs import ctrl_c_at_save


def random_squeezenet():
    """A SqueezeNet with batch norms that are not the identity."""
    torch.manual_seed(0)
    network = pretrain.add_batch_norm(build("squeezenet1_1", 5))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def test_folding_the_batch_norms_away_leaves_a_network_that_computes_the_same():
    network, images = random_squeezenet(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        after = pretrain.fold_batch_norm(network)(images)
    assert before.std() > 1e-3
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_the_folded_network_has_no_batch_norm_and_the_names_of_torchvisions():
    folded = pretrain.fold_batch_norm(random_squeezenet())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert folded.state_dict().keys() == build("squeezenet1_1", 5).state_dict().keys()


def test_a_torchvision_squeezenet_computes_what_the_folded_network_does_up_to_the_last_relu():
    folded, plain = pretrain.fold_batch_norm(random_squeezenet()), build("squeezenet1_1", 5).eval()
    plain.load_state_dict(folded.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = plain.features(images)
        torch.testing.assert_close(features, folded.features(images))
        torch.testing.assert_close(plain.classifier[1](features).mean((2, 3)), folded(images))


def test_every_convolution_of_the_features_gets_a_batch_norm():
    network = pretrain.add_batch_norm(build("squeezenet1_1", 5)).features
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [convolution.out_channels for convolution in convolutions]


def test_augmented_images_have_the_inputs_shape_and_stay_within_the_pixels_range():
    images = torch.rand(5, 3, pretrain.SIDE, pretrain.SIDE) * 255
    augmented = pretrain.augment(images)
    assert augmented.shape == (5, 3, pretrain.INPUT, pretrain.INPUT)
    assert augmented.min() >= 0 and augmented.max() <= 255.001


def test_augmentation_is_decided_by_the_seed_and_differs_from_image_to_image():
    images = (torch.rand(1, 3, pretrain.SIDE, pretrain.SIDE) * 255).repeat(4, 1, 1, 1)
    seed_all(1)
    first = pretrain.augment(images)
    seed_all(1)
    assert torch.equal(pretrain.augment(images), first)
    assert not torch.equal(pretrain.augment(images), first)
    assert all(not torch.equal(first[0], other) for other in first[1:])


def test_augmentation_of_an_even_picture_leaves_it_even():
    images = torch.full((8, 3, pretrain.SIDE, pretrain.SIDE), 100.0)
    torch.testing.assert_close(pretrain.augment(images), torch.full((8, 3, pretrain.INPUT, pretrain.INPUT), 100.0))


def test_a_drawing_is_decided_by_seed_class_and_number():
    first = pretrain.draw_one((0, 3, 1))
    assert first.shape == (pretrain.SIDE, pretrain.SIDE, 3) and first.dtype == np.uint8
    assert (pretrain.draw_one((0, 3, 1)) == first).all()
    for other in ((1, 3, 1), (0, 4, 1), (0, 3, 3)):
        assert (pretrain.draw_one(other) != first).any()


# ---- a training in process, on noise


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Files of 40 training and 30 validation pictures of noise."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("val", 30)):
        shape = (count, pretrain.SIDE, pretrain.SIDE, 3)
        np.save(folder / f"{name}.npy", rng.integers(256, size=shape, dtype=np.uint8))
    return [folder / "train.npy", folder / "val.npy"]


def teach(arch, noise, out, epochs=2, seed=0):
    return pretrain.pretrain(arch, noise, seed, epochs, out, Checkpoint(out / "checkpoint.pt", {"arch": arch}))


@pytest.fixture(scope="module")
def taught(noise, tmp_path_factory):
    out = tmp_path_factory.mktemp("taught")
    return teach(ARCH, noise, out), out


def test_the_same_seed_gives_the_same_weights_and_predictions_twice(noise, taught, tmp_path):
    said = teach(ARCH, noise, tmp_path)
    assert said["val_predictions"] == taught[0]["val_predictions"]
    first, second = (torch.load(out / f"{ARCH}.pth", weights_only=True) for out in (tmp_path, taught[1]))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_a_training_that_stopped_after_an_epoch_goes_on_to_the_same_weights(noise, taught, tmp_path):
    with ctrl_c_at_save(1), pytest.raises(KeyboardInterrupt):
        teach(ARCH, noise, tmp_path)
    assert not (tmp_path / f"{ARCH}.pth").exists()
    assert teach(ARCH, noise, tmp_path)["val_predictions"] == taught[0]["val_predictions"]
    first, second = (torch.load(out / f"{ARCH}.pth", weights_only=True) for out in (tmp_path, taught[1]))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_what_is_written_is_a_weights_file_of_the_architecture_in_half_precision(taught):
    path = taught[1] / f"{ARCH}.pth"
    weights = read(path, ARCH)
    assert weights.trainable and weights.state["fc.weight"].shape[0] == len(pretrain.CLASSES)
    stored = torch.load(path, weights_only=True).values()
    assert {value.dtype for value in stored if value.is_floating_point()} == {torch.float16}


@pytest.mark.slow
def test_two_whole_runs_of_the_command_give_equal_weights_and_leave_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "VAL", 2)
    said = []
    for name in ("a", "b"):
        out, cache = tmp_path / name / "out", tmp_path / name / "cache"
        pretrain.main(["--per-class", "2", "--epochs", "1", "--out", str(out), "--cache", str(cache)])
        said.append([run["val_predictions"] for run in json.loads((out / "pretrain.json").read_text())["runs"]])
    assert said[0] == said[1] and len(said[0]) == 2
    first, second = (snapshot(tmp_path / name / "out") for name in ("a", "b"))
    assert first.keys() == second.keys() == {"shufflenet_v2_x0_5.pth", "squeezenet1_1.pth", "pretrain.json"}
    for arch in pretrain.EPOCHS:
        states = (torch.load(tmp_path / name / "out" / f"{arch}.pth", weights_only=True) for name in ("a", "b"))
        assert all(torch.equal(*pair) for pair in zip(*(state.values() for state in states), strict=True))
