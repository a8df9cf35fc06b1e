"""Problem 2's pictures: the course's photo and paintings, or the built-in ones, drawn by code."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import DataError, builtin, choose
from data.builtin import paintings

CONTENT = "tubingen"
STYLES = ("composition_vii", "the_scream", "starry_night")
DRAWINGS = {
    CONTENT: ("town", paintings.draw_town),
    "composition_vii": ("mosaic", paintings.draw_mosaic),
    "the_scream": ("lines", paintings.draw_lines),
    "starry_night": ("strokes", paintings.draw_strokes),
}  # what stands in for each of the course's pictures


@dataclass(frozen=True)
class Pictures:
    """The files of the content picture and of the style that each of the handout's names stands for.

    name: what plots and results.json call the set.
    """

    content: Path
    styles: dict
    name: str
    real: bool = True


def load(data, cache):
    """The pictures that a script's `--data` asks for.

    cache: the folder where the built-in ones are drawn if they are not there yet.
    Raises DataError, naming the file, where one of the four is missing; whether it can be read, `open_photo` says.
    """
    folder = choose("styles", data)
    if folder:
        paths = {name: Path(folder) / f"{name}.jpg" for name in (CONTENT, *STYLES)}
        for path in paths.values():
            if not path.exists():
                hint = "" if data is None else f" --data {data}"
                raise DataError(f"{path}: no such picture; get it: python -m data.download styles{hint}")
        name = "tubingen and three paintings (real pictures)"
    else:
        folder = draw(cache)
        paths = {name: folder / f"{drawn}.png" for name, (drawn, _) in DRAWINGS.items()}
        name = "built-in town and three styles (drawn)"
    return Pictures(paths.pop(CONTENT), paths, name, real=paths[STYLES[0]].suffix == ".jpg")


def draw(cache):
    """The folder of the built-in pictures, drawn from a fixed seed on the first call (some seconds)."""
    return builtin.made(cache, "styles", _draw)


def _draw(folder):
    for k, (name, draw_picture) in enumerate(DRAWINGS.values()):
        draw_picture(np.random.default_rng([2, k])).save(folder / f"{name}.png")
