"""data/features.py: features are what the network's last layer sees, computed once for the same photos and weights."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.cli import UserError
from data import features, weights
from data.features import PhotoFeatures, StoredFeatures


@pytest.fixture(scope="module")
def squeezenet():
    return weights.load("squeezenet1_1", "builtin")


def photo(k):
    """48 x 36 pixels, grey with a square at a place and of a color that depend on k."""
    image = Image.new("RGB", (48, 36), (60 + 5 * k,) * 3)
    image.paste((40 * k % 256, 200, 90), (4 + k, 4, 24 + k, 24))
    return image


def test_features_are_the_input_of_the_last_layer():
    network = weights.build("resnet18", 10).eval()
    pretrained = SimpleNamespace(network=lambda: network)
    images = torch.randn(2, 3, 64, 64)
    found = features.Extractor(pretrained)(images)
    assert found.shape == (2, 512) and not found.requires_grad
    torch.testing.assert_close(network.fc(found), network(images))


def test_a_map_becomes_the_means_of_its_four_quarters(squeezenet):
    images = torch.randn(3, 3, 128, 128)
    seen = squeezenet.network().eval().features(images)
    assert seen.shape == (3, 512, 7, 7)
    top, bottom = seen[:, :, :4], seen[:, :, 3:]  # of seven rows the fourth is in both
    quarters = [half[..., side].mean((2, 3)) for half in (top, bottom) for side in (slice(4), slice(3, 7))]
    torch.testing.assert_close(features.Extractor(squeezenet)(images).view(3, 512, 4), torch.stack(quarters, 2))


def test_the_whole_photo_is_squeezed_into_a_square():
    image = Image.new("RGB", (20, 90), "white")
    image.paste("black", (0, 0, 10, 90))
    tensor = features.whole_photo(32)(image)
    assert tensor.shape == (3, 32, 32)
    assert (tensor[:, :, :14] < -1.5).all() and (tensor[:, :, 18:] > 2).all()


def test_features_do_not_depend_on_the_other_photos(squeezenet, monkeypatch):
    monkeypatch.setattr(features, "BATCH", 3)
    source, images = PhotoFeatures({}, squeezenet, "unused", "cpu"), [photo(k) for k in range(5)]
    np.testing.assert_allclose(source.compute(images[-1:]), source.compute(images)[-1:], rtol=1e-4, atol=1e-5)


class Toy(nn.Module):
    """Instead of the network: the mean color of each image. Counts the images."""

    seen = 0

    def __init__(self, pretrained):
        super().__init__()

    def forward(self, images):
        Toy.seen += len(images)
        return images.mean((2, 3))


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Makes the PhotoFeatures of five photos; `Toy.seen` counts the photos that were computed."""
    monkeypatch.setattr(features, "Extractor", Toy)
    monkeypatch.setattr(Toy, "seen", 0)
    paths = [tmp_path / f"{k}.png" for k in range(5)]
    for k, path in enumerate(paths):
        photo(k).save(path)

    def make(print_="a", image_size=32):
        about = {"name": "toy", "arch": "toy", "builtin": True}
        pretrained = SimpleNamespace(fingerprint=print_, image_size=image_size, **about)
        return PhotoFeatures({"train": paths}, pretrained, tmp_path / "cache", "cpu")

    return make


def test_computed_features_are_read_from_the_cache(source):
    first, second = (source().read("train", range(5)) for _ in range(2))
    assert Toy.seen == 5 and np.array_equal(first, second)


def test_a_changed_photo_is_computed_again(source):
    before = source().read("train", range(5))
    photo(9).save(source().paths["train"][2])
    after = source().read("train", range(5))
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, True, True]


@pytest.mark.parametrize("other", [{"print_": "b"}, {"image_size": 48}])
def test_other_weights_or_sizes_are_computed_again(source, other):
    assert source(**other).id != source().id
    source().read("train", range(5))
    source(**other).read("train", range(5))
    assert Toy.seen == 10


def test_a_broken_cache_file_is_computed_again(source):
    good = source().read("train", range(5))
    [path] = source().cache.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert np.array_equal(source().read("train", range(5)), good) and Toy.seen == 10


def test_a_stopped_run_keeps_the_finished_files(source, monkeypatch):
    monkeypatch.setattr(features, "SHARD", 2)
    broken = source().paths["train"][4]
    content = broken.read_bytes()
    broken.write_bytes(content[:60])
    with pytest.raises(UserError, match="4.png"):
        source().read("train", range(5))
    broken.write_bytes(content)
    Toy.seen = 0
    source().read("train", range(5))
    assert Toy.seen == 1


def stored(path, array):
    """The StoredFeatures of a file with these features; the photos are its rows 3, 0, 2."""
    with h5py.File(path, "w") as file:
        file["features"] = array
    return StoredFeatures({"train": (path, np.array([3, 0, 2]))}, "VGG-16")


def test_stored_features_come_in_the_order_of_the_request(tmp_path):
    array = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float16)
    found = stored(tmp_path / "x.h5", array).read("train", [2, 0, 1, 0])
    assert found.dtype == np.float32 and np.array_equal(found, array[[2, 3, 0, 3]].astype(np.float32))


def test_stored_features_that_are_not_finite_are_an_error(tmp_path):
    with pytest.raises(UserError, match="x.h5: .*NaN"):
        stored(tmp_path / "x.h5", np.full((4, 6), np.nan)).read("train", [0])
