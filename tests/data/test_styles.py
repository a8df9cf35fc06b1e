"""data/styles.py: the course's pictures if they exist, the drawn pictures otherwise."""

import pytest
from PIL import Image

from common.cli import UserError
from data import styles


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "styles").mkdir()
    for name in (styles.CONTENT, *styles.STYLES):
        Image.new("RGB", (4, 4)).save(tmp_path / "styles" / f"{name}.jpg")
    return tmp_path


def test_the_courses_pictures_are_found(folder):
    found = styles.load(folder, folder / "cache")
    assert found.content == folder / "styles" / "tubingen.jpg" and found.real
    assert found.styles == {name: folder / "styles" / f"{name}.jpg" for name in styles.STYLES}


def test_a_missing_picture_error_has_the_download_command(folder):
    (folder / "styles" / "the_scream.jpg").unlink()
    with pytest.raises(UserError, match=r"the_scream\.jpg: .*python -m data\.download styles --data"):
        styles.load(folder, folder / "cache")


def test_drawn_pictures_are_the_fallback_and_reproducible(tmp_path, monkeypatch):
    pixel = lambda rng: Image.new("L", (1, 1), int(rng.integers(256)))  # noqa: E731
    monkeypatch.setattr(styles, "DRAWINGS", {name: (file, pixel) for name, (file, _) in styles.DRAWINGS.items()})
    found, again = (styles.load("builtin", tmp_path / name) for name in "ab")
    assert not found.real and found.content.name == "town.png"
    names = {style: path.name for style, path in found.styles.items()}
    assert names == {"composition_vii": "mosaic.png", "the_scream": "lines.png", "starry_night": "strokes.png"}
    assert all(path.read_bytes() == again.styles[style].read_bytes() for style, path in found.styles.items())
