"""Problem 2's pictures: the course's photo and paintings, or built-in pictures drawn by code."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.cli import UserError
from data import choose, drawn
from data.drawn import paintings

CONTENT = "tubingen"
DRAWINGS = {  # the built-in picture for each of the course's
    CONTENT: ("town", paintings.draw_town),
    "composition_vii": ("mosaic", paintings.draw_mosaic),
    "the_scream": ("lines", paintings.draw_lines),
    "starry_night": ("strokes", paintings.draw_strokes),
}
STYLES = tuple(DRAWINGS)[1:]


def style_name(name):
    """The handout's name for a style, given that name or the name of its built-in drawing."""
    return {drawing: painting for painting, (drawing, _) in DRAWINGS.items()}.get(name, name)


@dataclass(frozen=True)
class Pictures:
    """Problem 2's pictures."""

    content: Path
    styles: dict  # {the handout's name: Path}
    name: str  # what plots and results.json call the set
    real: bool  # whether these are the course's pictures


def load(data, cache, preset=None):
    """The `Pictures` for a script's `--data`. Built-in pictures are drawn once, into the folder `cache` (some seconds).

    preset: the requested style; prints a line if a drawing replaces it.
    Raises UserError, naming the file, if one of the four is missing.
    """
    folder = choose("styles", data)
    if folder is None:
        folder = drawn.made_here(cache, "styles", _draw)
        paths = {name: folder / f"{file}.png" for name, (file, _) in DRAWINGS.items()}
        if preset:
            cure = "the painting: python -m data.download styles"
            print(f"{preset}: painting not found; using the built-in drawing {paths[preset].stem!r} ({cure})")
        return Pictures(paths.pop(CONTENT), paths, "built-in town and three styles (drawn)", real=False)
    paths = {name: folder / f"{name}.jpg" for name in DRAWINGS}
    for path in paths.values():
        if not path.exists():
            where = f" --data {data}" if data else ""
            raise UserError(f"{path}: no such picture; get it: python -m data.download styles{where}")
    return Pictures(paths.pop(CONTENT), paths, "tubingen and three paintings (real pictures)", real=True)


def _draw(folder):
    for k, (name, draw_picture) in enumerate(DRAWINGS.values()):
        draw_picture(np.random.default_rng([2, k])).save(folder / f"{name}.png")
