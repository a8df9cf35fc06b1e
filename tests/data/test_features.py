"""data/features.py: features are the input of the network's last layer and are cached by photo and weights."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from common.cli import UserError
from data import features, weights
from data.features import PhotoFeatures, StoredFeatures


def photo(k):
    return Image.new("RGB", (48, 36), (25 * k, 200, 90))


def test_features_are_the_input_of_the_last_layer():
    network = weights.build("resnet18", 10).eval()
    pretrained = SimpleNamespace(network=lambda: network)
    images = torch.randn(2, 3, 64, 64)
    found = features.Extractor(pretrained)(images)
    assert found.shape == (2, 512) and not found.requires_grad
    torch.testing.assert_close(network.fc(found), network(images))


def test_a_feature_map_becomes_the_means_of_its_four_quarters():
    squeezenet = weights.load("squeezenet1_1", "builtin")
    images = torch.randn(3, 3, 128, 128)
    seen = squeezenet.network().eval().features(images)
    assert seen.shape == (3, 512, 7, 7)
    top, bottom = seen[:, :, :4], seen[:, :, 3:]  # the fourth of seven rows is in both
    quarters = [half[..., side].mean((2, 3)) for half in (top, bottom) for side in (slice(4), slice(3, 7))]
    torch.testing.assert_close(features.Extractor(squeezenet)(images).view(3, 512, 4), torch.stack(quarters, 2))


def test_the_whole_photo_is_resized_to_a_square():
    image = Image.new("RGB", (20, 90), "white")
    image.paste("black", (0, 0, 10, 90))
    tensor = features.whole_photo(32)(image)
    assert tensor.shape == (3, 32, 32)
    assert (tensor[:, :, :14] < -1.5).all() and (tensor[:, :, 18:] > 2).all()


def test_features_do_not_depend_on_the_other_photos(monkeypatch):
    monkeypatch.setattr(features, "BATCH", 3)
    source = PhotoFeatures({}, weights.load("squeezenet1_1", "builtin"), "unused", "cpu")
    images = [photo(k) for k in range(5)]
    np.testing.assert_allclose(source.compute(images[-1:]), source.compute(images)[-1:], rtol=1e-4, atol=1e-5)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads the mean colors of five photos in place of features; `read.seen` counts the computed photos."""
    for k in range(5):
        photo(k).save(tmp_path / f"{k}.png")

    def compute(self, images, bar):
        colors = [np.asarray(image).mean((0, 1)) for image in images]
        read.seen += len(colors)
        return np.array(colors, np.float32)

    def read(**other):
        about = dict(name="toy", arch="toy", builtin=True, fingerprint="a", image_size=32) | other
        paths = {"train": [tmp_path / f"{k}.png" for k in range(5)]}
        return PhotoFeatures(paths, SimpleNamespace(**about), tmp_path / "cache", "cpu").read("train", range(5))

    monkeypatch.setattr(PhotoFeatures, "compute", compute)
    read.seen = 0
    return read


def test_computed_features_are_read_from_the_cache(read):
    assert np.array_equal(read(), read()) and read.seen == 5


def test_features_of_a_changed_photo_are_updated(read, tmp_path):
    before = read()
    photo(9).save(tmp_path / "2.png")
    assert (before == read()).all(1).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("other", [{"fingerprint": "b"}, {"image_size": 48}])
def test_other_weights_or_sizes_are_computed_again(read, other):
    read()
    read(**other)
    assert read.seen == 10


def test_a_broken_cache_file_is_computed_again(read, tmp_path):
    good = read()
    [path] = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert np.array_equal(read(), good) and read.seen == 10


def test_a_stopped_run_keeps_the_finished_files(read, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SHARD", 2)
    (tmp_path / "4.png").write_bytes(b"cut")
    with pytest.raises(UserError, match="4.png"):
        read()
    photo(4).save(tmp_path / "4.png")
    read()
    assert read.seen == 5


def stored(path, array):
    with h5py.File(path, "w") as file:
        file["features"] = array
    return StoredFeatures({"train": (path, np.array([3, 0, 2]))}, "VGG-16")  # rows of three photos


def test_stored_features_follow_the_order_of_the_request(tmp_path):
    array = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float16)
    found = stored(tmp_path / "x.h5", array).read("train", [2, 0, 1, 0])
    assert found.dtype == np.float32 and np.array_equal(found, array[[2, 3, 0, 3]].astype(np.float32))


def test_stored_features_that_are_not_finite_are_an_error(tmp_path):
    with pytest.raises(UserError, match="x.h5: .*NaN"):
        stored(tmp_path / "x.h5", np.full((4, 6), np.nan)).read("train", [0])
