"""data/images.py: any photo becomes an upright RGB image; a set has a fixed order, and its errors are one line."""

import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from common.cli import UserError
from data import images

RED = (200, 30, 60)
HEIC = b"\0\0\0\x18ftypheic" + bytes(40)
NAN = Image.fromarray(np.full((8, 8), np.nan, np.float32))


def corner_image(mode="RGB"):
    """A gray image of 40 x 20 pixels with a red square at the top left."""
    image = Image.new("RGB", (40, 20), (90, 90, 90))
    image.paste(RED, (0, 0, 10, 10))
    return image.convert(mode)


def pixels(path):
    """The pixels of an opened photo as integers, (H, W, 3)."""
    image = images.open_photo(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("orientation, top, left", [(1, 1, 1), (3, 0, 0), (6, 1, 0), (8, 0, 1)])
def test_a_photo_is_turned_upright(tmp_path, orientation, top, left):
    exif = Image.Exif()
    exif[274] = orientation
    corner_image().save(tmp_path / "photo.png", exif=exif)
    found = pixels(tmp_path / "photo.png")
    assert found.shape == ((20, 40, 3) if orientation < 5 else (40, 20, 3))
    assert tuple(found[3 if top else -4, 3 if left else -4]) == RED


@pytest.mark.parametrize("name", ["RGB.jpg", "CMYK.jpg", "RGB.png", "RGB.bmp", "RGB.gif", "RGB.tif", "RGB.webp"])
def test_every_common_format_is_read(tmp_path, name):
    corner_image(name.split(".")[0]).save(tmp_path / name)
    assert np.abs(pixels(tmp_path / name)[3, 3] - RED).max() <= 30


@pytest.mark.parametrize("kind, levels, expected", [
    (np.uint16, [0, 257, 65535], [0, 1, 255]),
    (np.uint16, [0, 100, 255], [0, 100, 255]),
    (np.float32, [0, 0.5, 1], [0, 127, 255]),
    (np.float32, [0, 100, 255], [0, 100, 255]),
    (np.float32, [-1, 0, 3], [0, 63, 255]),
    (np.uint16, [0, 2048, 4095], [0, 127, 255]),
])  # fmt: skip
def test_16_bit_and_float_pixels_are_scaled_to_8_bits(tmp_path, kind, levels, expected):
    Image.fromarray(np.array([levels], kind)).save(tmp_path / "scan.tif")
    assert pixels(tmp_path / "scan.tif")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_blended_with_white(tmp_path, mode):
    image, black = Image.new(mode, (3, 1), 0), (0,) * (len(mode) - 1)
    for x, alpha in ((1, 128), (2, 255)):
        image.putpixel((x, 0), (*black, alpha))
    image.save(tmp_path / "photo.png")
    assert pixels(tmp_path / "photo.png")[0, :, 0].tolist() == [255, 127, 0]


def test_photos_are_sorted_by_name(photos):
    (photos / "val" / "ants" / "ants0.png").rename(photos / "val" / "ants" / "C.PNG")
    found = images.load(None, photos, None)
    names = [Path(path).name for path, _ in found.val.samples]
    assert names == ["C.PNG", "ants1.png", "ants2.png", "ants3.png", *(f"bees{k}.png" for k in range(4))]
    assert found.val.targets == [0, 0, 0, 0, 1, 1, 1, 1]
    assert (found.classes, found.real, found.name) == (["ants", "bees"], True, "photos in garden")


def test_files_and_folders_of_other_programs_are_ignored(photos):
    for name in ("Thumbs.db", ".DS_Store", "._ants0.jpg"):
        (photos / "train" / "ants" / name).write_text("no photo")
    for name in (".ipynb_checkpoints", "__MACOSX", "ants/.thumbs", "ants/__MACOSX"):
        (photos / "train" / name).mkdir()
        (photos / "train" / name / "a.jpg").write_text("no photo")
    found = images.load(None, photos, None)
    assert (len(found.train), found.classes) == (12, ["ants", "bees"])


def test_links_to_parent_folders_are_not_followed(photos, tmp_path):
    (tmp_path / "more").mkdir()
    corner_image().save(tmp_path / "more" / "ant.png")
    for name, target in (("again", "."), ("above", ".."), ("more", tmp_path / "more"), ("twice", tmp_path / "more")):
        (photos / "train" / "ants" / name).symlink_to(target)
    assert len(images.load(None, photos, None).train) == 13
    for split in ("train", "val"):
        (photos / split / "whole").symlink_to("..")
    with pytest.raises(UserError, match="whole: holds no photo"):
        images.load(None, photos, None)


def test_skipped_files_are_counted(photos, capsys):
    for name in ("IMG_1.HEIC", "IMG_2.HEIC"):
        (photos / "train" / "ants" / name).touch()
    assert len(images.load(None, photos, None).train) == 12
    assert "garden: skipped files that Pillow cannot read: .heic (2); convert" in capsys.readouterr().out


def remove(pattern):
    return lambda folder: [shutil.rmtree(found) for found in folder.glob(pattern)]


BAD_SETS = {
    "no val": (remove("val"), r"garden/val: no such folder; .*<class>"),
    "no classes": (remove("train/*"), r"garden/train: holds no class folders"),
    "an empty class": (lambda folder: (folder / "val" / "wasps").mkdir(), r"val/wasps: holds no photo"),
    "a class in one split": (remove("val/bees"), r"garden: class 'bees' is not in both"),
    "one class": (remove("*/bees"), r"garden: has only one class \(ants\)"),
    "a cut photo": (lambda folder: os.truncate(folder / "val/bees/bees1.png", 999), r"bees1\.png: cannot be read"),
    "three cut photos": (lambda folder: [os.truncate(folder / f"val/bees/bees{k}.png", 9) for k in range(3)],
                         r"bees0\.png: .* \(2 more cannot be read\)"),
    "a web page": (lambda folder: (folder / "val/ants/a.jpg").write_bytes(b"<html>"), r"a\.jpg: not a picture"),
    "a phone's photo": (lambda folder: (folder / "val/ants/a.jpg").write_bytes(HEIC), r"a\.jpg: a HEIC photo"),
    "NaN": (lambda folder: NAN.save(folder / "val/ants/a.tif"), r"a\.tif: .*NaN"),
}  # fmt: skip


@pytest.mark.parametrize("spoil, words", BAD_SETS.values(), ids=BAD_SETS)
def test_errors_of_a_bad_set_name_the_cause(photos, spoil, words):
    spoil(photos)
    with pytest.raises(UserError, match=words):
        images.load(None, photos, None)


@pytest.mark.parametrize("error, kind", [(MemoryError(), MemoryError), (PermissionError(13, "denied"), UserError)])
def test_machine_errors_do_not_advise_replacing_the_photo(monkeypatch, error, kind):
    monkeypatch.setattr(Image, "open", Mock(side_effect=error))
    with pytest.raises(kind, match="^(?!.*replace)"):
        images.open_photo("photo.png")


def test_the_fingerprint_changes_only_with_the_photos(photos):
    prints = [images.load(None, photos, None).fingerprint]
    photos = photos.rename(photos.with_name("elsewhere"))
    assert images.load(None, photos, None).fingerprint == prints[0]
    photo = photos / "train" / "ants" / "ants0.png"
    for change in (corner_image().save, photo.with_name("other.png").hardlink_to, Path.unlink):
        change(photo)
        prints.append(images.load(None, photos, None).fingerprint)
    assert len(set(prints)) == 4


def test_the_real_set_has_the_published_counts(hw2_data, tmp_path):
    found = images.load(hw2_data, None, tmp_path)
    assert (len(found.train), len(found.val), found.classes) == (243, 153, ["ants", "bees"])  # without a broken GIF
    assert (found.real, found.name) == (True, "hymenoptera_data (ants and bees, real photos)")


def test_the_drawn_set_is_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "COUNTS", {"train": {"ants": 2, "bees": 1}, "val": {"ants": 1, "bees": 2}})
    found, again = (images.load("builtin", None, tmp_path / name) for name in "ab")
    assert [found.train.targets, found.val.targets, found.real] == [[0, 0, 1], [0, 1, 1], False]
    assert found.fingerprint == again.fingerprint
    assert len({path.read_bytes() for path in tmp_path.rglob("*.png")}) == 6  # no two photos are equal
