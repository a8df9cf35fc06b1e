"""data/images.py: any photo becomes an upright RGB image; a set is complete, in a fixed order, or a one-line error."""

import shutil

import numpy as np
import pytest
from PIL import Image

from common.cli import UserError
from data import images

RED = (200, 30, 60)


def corner_image(mode="RGB"):
    """40 x 20 pixels, grey but for a red square at the top left."""
    image = Image.new("RGB", (40, 20), (90, 90, 90))
    image.paste(RED, (0, 0, 10, 10))
    return image.convert(mode)


def pixels(path):
    """The pixels of an opened photo as integers, (H, W, 3)."""
    image = images.open_photo(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


# ---- one photo


@pytest.mark.parametrize("orientation, top, left", [(1, 1, 1), (3, 0, 0), (6, 1, 0), (8, 0, 1)])
def test_a_photo_is_turned_upright(tmp_path, orientation, top, left):
    exif = Image.Exif()
    exif[274] = orientation
    corner_image().save(tmp_path / "photo.png", exif=exif)
    found = pixels(tmp_path / "photo.png")
    assert found.shape == ((20, 40, 3) if orientation < 5 else (40, 20, 3))
    assert tuple(found[3 if top else -4, 3 if left else -4]) == RED


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp"])
def test_every_usual_format_is_read(tmp_path, suffix):
    corner_image().save(tmp_path / f"photo.{suffix}")
    assert np.abs(pixels(tmp_path / f"photo.{suffix}")[3, 3] - RED).max() <= 30


def test_a_cmyk_photo_keeps_its_colours(tmp_path):
    corner_image("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "print.jpg")[3, 3] - RED).max() <= 25


@pytest.mark.parametrize("levels, expected", [([0, 257, 65535], [0, 1, 255]), ([0, 100, 255], [0, 100, 255])])
def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path, levels, expected):
    Image.fromarray(np.array([levels], np.uint16)).save(tmp_path / "scan.png")
    assert pixels(tmp_path / "scan.png")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_put_on_white(tmp_path, mode):
    image, black = Image.new(mode, (3, 1), 0), (0,) * (len(mode) - 1)
    for x, alpha in ((1, 128), (2, 255)):
        image.putpixel((x, 0), (*black, alpha))
    image.save(tmp_path / "photo.png")
    assert pixels(tmp_path / "photo.png")[0, :, 0].tolist() == [255, 127, 0]


def cut(path):
    corner_image().resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:-200])


BAD_PHOTOS = {
    "cut": cut,
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "a web page": lambda path: path.write_bytes(b"<html>404</html>"),
    "only a header": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"),
}


@pytest.mark.parametrize("kind", BAD_PHOTOS)
def test_a_bad_photo_is_a_usererror_with_its_name(tmp_path, kind):
    BAD_PHOTOS[kind](tmp_path / "photo.jpg")
    with pytest.raises(UserError, match=r"^[^\n]*photo\.jpg: [^\n]*$"):
        images.open_photo(tmp_path / "photo.jpg")


# ---- a set of photos


@pytest.fixture
def garden(tmp_path):
    """A folder of one's own photos: two ants and two bees to train, and as many to validate."""
    for split in ("train", "val"):
        for kind in ("ants", "bees"):
            (tmp_path / "garden" / split / kind).mkdir(parents=True)
            for k in range(2):
                corner_image().save(tmp_path / "garden" / split / kind / f"{kind}{k}.jpg")
    return tmp_path / "garden"


def load(folder):
    return images.load(None, folder, folder / "cache")


def test_photos_are_read_in_the_order_of_their_names(garden):
    (garden / "train" / "ants" / "ants0.jpg").rename(garden / "train" / "ants" / "C.JPG")
    found = load(garden)
    names = [path.rpartition("/")[2] for path, _ in found.train.samples]
    assert (names, found.train.targets) == (["C.JPG", "ants1.jpg", "bees0.jpg", "bees1.jpg"], [0, 0, 1, 1])
    assert (found.classes, found.real, found.name) == (["ants", "bees"], True, "photos in garden")


def test_the_gif_in_the_real_set_is_ignored(garden):
    data = garden.rename(garden.with_name("hymenoptera_data")).parent
    (data / "hymenoptera_data" / "train" / "ants" / "imageNotFound.gif").write_bytes(b"GIF89a")
    found = images.load(data, None, data / "cache")
    assert (len(found.train), found.real, found.name) == (4, True, "hymenoptera_data (ants and bees, real photos)")


def test_files_and_folders_of_other_programs_are_ignored(garden):
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "._ants0.jpg"):
        (garden / "train" / "ants" / name).write_text("no photo")
    for name in (".ipynb_checkpoints", "__MACOSX", "ants/.thumbs", "ants/__MACOSX"):
        (garden / "train" / name).mkdir()
        (garden / "train" / name / "a.jpg").write_text("no photo")
    assert (len(load(garden).train), load(garden).classes) == (4, ["ants", "bees"])


def remove(*folders):
    """A function that removes these folders below the one that it is given."""
    return lambda folder: [shutil.rmtree(folder / name) for name in folders]


BAD_SETS = {
    "no val": (remove("val"), r"garden/val: no such folder; .*<class>"),
    "no classes": (remove("train/ants", "train/bees"), r"garden/train: holds no class folders"),
    "an empty class": (lambda folder: (folder / "val" / "wasps").mkdir(), r"val/wasps: holds no photo"),
    "a class in one split": (remove("val/bees"), r"garden: class 'bees' is not in both"),
    "one class": (remove("train/bees", "val/bees"), r"garden: has only one class \(ants\)"),
    "a cut photo": (lambda folder: cut(folder / "val" / "bees" / "bees1.jpg"), r"bees1\.jpg: cannot be read"),
    "a phone's HEIC": (lambda folder: (folder / "val" / "ants" / "a.HEIC").write_bytes(b"heic"), r"a\.HEIC: .*JPEG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_SETS)
def test_a_bad_set_is_a_usererror_with_the_cure(garden, kind):
    spoil, words = BAD_SETS[kind]
    spoil(garden)
    with pytest.raises(UserError, match=words):
        load(garden)


CHANGES = {
    "remove": lambda photo: photo.unlink(),
    "rename": lambda photo: photo.rename(photo.with_name("other.jpg")),
    "replace": lambda photo: Image.new("RGB", (40, 20), RED).save(photo),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_changes_with_the_photos(garden, change):
    before = load(garden).fingerprint
    CHANGES[change](garden / "train" / "ants" / "ants0.jpg")
    assert load(garden).fingerprint != before


def test_the_fingerprint_does_not_change_with_the_folder(garden):
    before = load(garden).fingerprint
    assert load(garden.rename(garden.with_name("elsewhere"))).fingerprint == before


def test_the_real_set_has_its_published_counts(hw2_data, tmp_path):
    found = images.load(hw2_data, None, tmp_path)
    assert (len(found.train), len(found.val), found.classes) == (243, 153, ["ants", "bees"])


# ---- the built-in set


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(images, "COUNTS", {"train": {"ants": 2, "bees": 1}, "val": {"ants": 1, "bees": 2}})


def test_the_drawn_set_has_the_classes_and_counts(tmp_path, few):
    found = images.load("builtin", None, tmp_path)
    assert [found.train.targets, found.val.targets, found.real] == [[0, 0, 1], [0, 1, 1], False]


def test_two_draws_are_equal_and_no_two_photos(tmp_path, few):
    first, second = ([p.read_bytes() for p in sorted(images.draw(tmp_path / name).rglob("*.png"))] for name in "ab")
    assert first == second and len(set(first)) == 6
