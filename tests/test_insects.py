"""data/insects.py: a photo becomes an upright RGB image or a one-line error; the sets are whole and always the same."""

import contextlib
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data import DataError, insects
from data.builtin import creatures
from data.files import TEMPORARY
from tests.conftest import snapshot
from tests.runs import check_one_error

CORNER = (200, 30, 60)


def corner_image(mode="RGB"):
    """40 x 20 pixels, grey but for a coloured square at the top left."""
    image = Image.new("RGB", (40, 20), (90, 90, 90))
    image.paste(CORNER, (0, 0, 10, 10))
    return image.convert(mode)


def near(pixel, expected, tolerance=6):
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height):
    """A small, valid PNG file of black pixels, 1 bit each, however many."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(min(height, 20000))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# ---- one photo


@pytest.mark.parametrize(
    "orientation, corner",
    [(1, "top left"), (2, "top right"), (3, "bottom right"), (4, "bottom left"), (5, "top left"), (6, "top right"),
     (7, "bottom right"), (8, "bottom left")],
)  # fmt: skip
def test_a_photo_is_turned_upright_as_its_exif_orientation_says(tmp_path, orientation, corner):
    exif = Image.Exif()
    exif[274] = orientation
    corner_image().save(tmp_path / "photo.png", exif=exif)
    opened = insects.open_photo(tmp_path / "photo.png")
    assert opened.size == ((40, 20) if orientation < 5 else (20, 40))
    down, across = corner.split()
    where = (3 if across == "left" else opened.width - 4), (3 if down == "top" else opened.height - 4)
    assert opened.getpixel(where) == CORNER


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "tif", "webp", "ppm"])
def test_any_format_that_pillow_reads_becomes_an_rgb_image_of_the_same_picture(tmp_path, suffix):
    corner_image().save(tmp_path / f"photo.{suffix}")
    opened = insects.open_photo(tmp_path / f"photo.{suffix}")
    assert (opened.mode, opened.size) == ("RGB", (40, 20))
    assert near(opened.getpixel((3, 3)), CORNER, 30) and near(opened.getpixel((30, 15)), (90, 90, 90), 10)


def test_a_grey_photo_has_three_equal_channels(tmp_path):
    corner_image("L").save(tmp_path / "grey.png")
    pixels = np.asarray(insects.open_photo(tmp_path / "grey.png"))
    assert pixels.shape == (20, 40, 3) and (pixels == np.asarray(corner_image("L"))[..., None]).all()


def test_a_black_and_white_photo_keeps_its_black_and_its_white(tmp_path):
    image = Image.new("1", (4, 2), 1)
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "fax.png")
    opened = insects.open_photo(tmp_path / "fax.png")
    assert opened.getpixel((0, 0)) == (0, 0, 0) and opened.getpixel((3, 1)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_shows_white_and_the_half_transparent_a_mixture(tmp_path, mode):
    image = Image.new(mode, (3, 1), 0)
    black = (0,) * (len(mode) - 1)
    image.putpixel((1, 0), (*black, 128))
    image.putpixel((2, 0), (*black, 255))
    image.save(tmp_path / "photo.png")
    opened = insects.open_photo(tmp_path / "photo.png")
    assert [opened.getpixel((x, 0)) for x in range(3)] == [(255, 255, 255), (127, 127, 127), (0, 0, 0)]


def test_a_transparent_palette_colour_shows_white_and_the_other_colours_stay(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, *CORNER])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "photo.png", transparency=0)
    opened = insects.open_photo(tmp_path / "photo.png")
    assert (opened.mode, opened.getpixel((0, 0)), opened.getpixel((1, 0))) == ("RGB", (255, 255, 255), CORNER)


def test_a_cmyk_photo_keeps_its_colours(tmp_path):
    corner_image("CMYK").save(tmp_path / "print.jpg", quality=95)
    opened = insects.open_photo(tmp_path / "print.jpg")
    assert opened.mode == "RGB" and near(opened.getpixel((3, 3)), CORNER, 25)


def test_sixteen_bit_grey_is_scaled_and_not_cut_off_at_255(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(ramp).save(tmp_path / "scan.png")
    pixels = np.asarray(insects.open_photo(tmp_path / "scan.png")).astype(int)
    assert np.abs(pixels - np.arange(256)[None, :, None]).max() <= 1


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in (CORNER, (0, 0, 255))]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert insects.open_photo(tmp_path / "film.gif").getpixel((4, 4)) == CORNER


@pytest.mark.parametrize("side", [10_000, 20_000], ids=["100 megapixels", "400 megapixels"])
def test_a_small_file_with_a_huge_number_of_pixels_is_refused_by_name(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_of(side, side))
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"bomb\.png: has too many pixels"):
        insects.open_photo(tmp_path / "bomb.png")


def test_a_large_photo_of_a_good_camera_is_not_refused(tmp_path):
    (tmp_path / "large.png").write_bytes(png_of(8000, 6000))
    assert insects.open_photo(tmp_path / "large.png").size == (8000, 6000)


NO_PHOTOS = {
    "empty": b"",
    "text": b"not a photo",
    "html": b"<html><script>x</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "only a header": b"\xff\xd8\xff\xe0",
}


def spoil(path, how):
    """Makes `path` a bad photo."""
    if how == "cut short":
        corner_image().resize((200, 200)).save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "a folder":
        path.mkdir()
    elif how != "missing":
        path.write_bytes(NO_PHOTOS[how])


@pytest.mark.parametrize("how", ["cut short", "missing", "a folder", *NO_PHOTOS])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.tif", "photo.webp"])
def test_a_bad_photo_is_one_dataerror_that_names_the_file(tmp_path, how, name):
    spoil(tmp_path / name, how)
    check_one_error(lambda: insects.open_photo(tmp_path / name), tmp_path / name)


def test_a_broken_tiff_leaves_nothing_on_stderr_and_stderr_as_it_was(tmp_path, capfd):
    path = tmp_path / "broken.tif"
    corner_image().save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    content[8] ^= 1
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        insects.open_photo(path)
    os.write(2, b"later")
    assert capfd.readouterr().err == "later"


def test_a_picture_a_hundred_times_as_long_as_wide_is_still_a_photo(tmp_path):
    Image.new("RGB", (100, 1)).save(tmp_path / "long.png")
    assert insects.open_photo(tmp_path / "long.png").size == (100, 1)


def test_wide_grey_levels_that_all_fit_in_8_bits_are_taken_as_they_are(tmp_path):
    Image.fromarray(np.array([[0, 100], [200, 255]], np.uint16)).save(tmp_path / "grey.png")
    pixels = np.asarray(insects.open_photo(tmp_path / "grey.png"))
    assert pixels[..., 0].tolist() == [[0, 100], [200, 255]]


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_picture_too_long_and_thin_to_be_a_photo_is_a_dataerror(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match="thin.png: .*too long and thin"):
        insects.open_photo(tmp_path / "thin.png")


# ---- a set of photos


def real_layout(folder, count=2):
    for split in ("train", "val"):
        for kind in ("ants", "bees"):
            (folder / "hymenoptera_data" / split / kind).mkdir(parents=True)
            for k in range(count):
                corner_image().save(folder / "hymenoptera_data" / split / kind / f"{k}.jpg")
    return folder


def test_the_real_layout_is_read_from_the_data_folder_as_real_photos(tmp_path):
    found = insects.load(real_layout(tmp_path), None, tmp_path / "cache")
    assert (found.classes, len(found.train), len(found.val), found.real) == (["ants", "bees"], 4, 4, True)
    assert "hymenoptera_data" in found.name and not (tmp_path / "cache").exists()


def test_the_placeholder_gif_of_the_published_archive_is_passed_over(tmp_path):
    placeholder = real_layout(tmp_path) / "hymenoptera_data" / "train" / "ants" / "imageNotFound.gif"
    placeholder.write_bytes(b"GIF89a, or so it says")
    found = insects.load(tmp_path, None, tmp_path / "cache")
    assert len(found.train) == 4 and not any(path.endswith(".gif") for path, _ in found.train.samples)


def test_files_that_are_no_photos_are_passed_over_in_a_folder_of_ones_own(photos):
    for name in ("Thumbs.db", "notes.txt", ".DS_Store"):
        (photos / "train" / "ants" / name).write_text("no photo")
    assert len(insects.load(None, photos, photos / "cache").train) == 12


def test_file_name_endings_count_in_either_case(photos):
    (photos / "train" / "ants" / "ants0.png").rename(photos / "train" / "ants" / "ants0.PNG")
    assert len(insects.load(None, photos, photos / "cache").train) == 12


def test_class_names_may_hold_spaces_quotes_and_any_letters(photos):
    for split in ("train", "val"):
        (photos / split / "ants").rename(photos / split / "Ameise 'rot' <b>蟻</b>".replace("/", ""))
    assert insects.load(None, photos, photos / "cache").classes[0].startswith("Ameise 'rot'")


def test_the_name_of_ones_own_photos_is_their_folders_and_not_its_path(photos):
    name = insects.load(None, photos, photos / "cache").name
    assert "garden" in name and "/" not in name


@pytest.mark.parametrize("change", ["add", "remove", "rename", "another photo under the same name"])
def test_the_fingerprint_changes_with_the_photos(photos, change):
    before = insects.load(None, photos, photos / "cache").fingerprint
    ants = photos / "train" / "ants"
    if change == "add":
        shutil.copy(ants / "ants0.png", ants / "ants9.png")
    elif change == "remove":
        (ants / "ants0.png").unlink()
    elif change == "rename":
        (ants / "ants0.png").rename(ants / "other.png")
    else:
        shutil.copy(ants / "ants1.png", ants / "ants0.png")
    assert insects.load(None, photos, photos / "cache").fingerprint != before


def test_the_fingerprint_does_not_depend_on_where_the_folder_lies(photos, tmp_path):
    before = insects.load(None, photos, tmp_path / "cache").fingerprint
    moved = photos.rename(tmp_path / "elsewhere")
    assert insects.load(None, moved, tmp_path / "cache").fingerprint == before


def test_the_real_set_has_its_published_counts(hw2_data, tmp_path):
    found = insects.load(hw2_data, None, tmp_path / "cache")
    assert (len(found.train), len(found.val), found.classes) == (243, 153, ["ants", "bees"])


def test_a_class_of_one_split_alone_is_a_dataerror_that_names_it(photos):
    shutil.copytree(photos / "train" / "bees", photos / "train" / "wasps")
    with pytest.raises(DataError, match="'wasps' is not in both train and val"):
        insects.load(None, photos, photos.parent)


def test_hidden_folders_beside_the_classes_are_passed_over(photos):
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (photos / "train" / name).mkdir()
    assert insects.load(None, photos, photos).classes == ["ants", "bees"]


def test_a_photo_replaced_by_another_of_the_same_size_changes_the_fingerprint(photos):
    before = insects.load(None, photos, photos).fingerprint
    path = next((photos / "train" / "ants").glob("*.png"))
    with Image.open(path) as image:
        size = image.size
    Image.new("RGB", size, CORNER).save(path.with_suffix(".bmp"))
    first = insects.load(None, photos, photos).fingerprint
    Image.new("RGB", size, (0, 0, 255)).save(path.with_suffix(".bmp"))
    assert len({before, first, insects.load(None, photos, photos).fingerprint}) == 3


# ---- the built-in set


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(insects, "COUNTS", {"train": {"ants": 2, "bees": 1}, "val": {"ants": 1, "bees": 2}})


def test_the_built_in_set_is_as_large_as_the_real_one():
    totals = {split: sum(counts.values()) for split, counts in insects.COUNTS.items()}
    assert totals == {"train": 244, "val": 153}


@pytest.mark.slow
def test_the_built_in_set_that_is_drawn_has_all_its_photos(tmp_path):
    found = insects.load("builtin", None, tmp_path)
    for split in ("train", "val"):
        names = [found.classes[label] for _, label in getattr(found, split).samples]
        assert {kind: names.count(kind) for kind in found.classes} == insects.COUNTS[split]


def test_as_many_photos_are_drawn_as_counts_says_and_nothing_else_is_left(tmp_path, few):
    found = insects.load("builtin", None, tmp_path)
    assert [found.train.targets, found.val.targets, found.real] == [[0, 0, 1], [0, 1, 1], False]
    assert not list(tmp_path.rglob(f"{TEMPORARY}*"))


def test_two_draws_of_the_built_in_set_are_bit_equal(tmp_path, few):
    first, second = insects.draw(tmp_path / "a"), insects.draw(tmp_path / "b")
    assert snapshot(first) == snapshot(second) and len(snapshot(first)) == 6 + 6


def test_no_two_photos_of_the_built_in_set_are_the_same(tmp_path, few):
    contents = [content for content in snapshot(insects.draw(tmp_path)).values() if content is not None]
    assert len(set(contents)) == len(contents) == 6


def test_the_built_in_set_is_drawn_once_and_then_found(tmp_path, few, monkeypatch):
    folder = insects.draw(tmp_path)
    monkeypatch.setattr(creatures, "draw_photo", lambda *_: pytest.fail("drawn again"))
    assert insects.draw(tmp_path) == folder


def test_a_drawing_that_is_interrupted_leaves_nothing_and_is_done_again(tmp_path, few, monkeypatch):
    calls = []

    def tired(kind, rng):
        calls.append(kind)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return Image.new("RGB", (8, 8))

    with monkeypatch.context() as patch:
        patch.setattr(creatures, "draw_photo", tired)
        with pytest.raises(KeyboardInterrupt):
            insects.draw(tmp_path / "cache")
    assert snapshot(tmp_path / "cache") == {}
    assert len(list(insects.draw(tmp_path / "cache").rglob("*.png"))) == 6


def test_the_classes_of_the_pretraining_are_none_of_problem_1s():
    assert set(creatures.TARGETS) == {"ants", "bees"} and len(creatures.PRETRAINING) >= 10
    assert not set(creatures.PRETRAINING) & set(creatures.TARGETS)


@pytest.mark.parametrize("kind", [*creatures.TARGETS, *creatures.PRETRAINING])
def test_a_drawing_is_decided_by_its_generator_alone(kind):
    first, second, other = (
        np.asarray(creatures.draw_photo(kind, np.random.default_rng(seed), 32)) for seed in (1, 1, 2)
    )
    assert first.shape == (32, 32, 3) and (first == second).all() and (first != other).any()
