"""A tiny run of every script: its inputs and its flags."""

import importlib
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from data.drawn import sentences
from tests.conftest import ARCH

COLORS = {"red": (210, 40, 30), "green": (40, 150, 60), "blue": (40, 70, 210)}


def noise(width, height, seed=0):
    """A picture of smooth random colors."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def write_flickr8k(folder, counts):
    """Photos of one color each with two captions, in Flickr8k's layout. counts: {split: number of photos}."""
    (folder / "images").mkdir(parents=True)
    captions = []
    for split, count in counts.items():
        names = [f"{split}{k}.jpg" for k in range(count)]
        for k, name in enumerate(names):
            color = list(COLORS)[k % 3]
            Image.new("RGB", (48, 36), COLORS[color]).save(folder / "images" / name)
            captions += [f"{name}#0\tA {color} square .", f"{name}#1\tThere is a {color} square on the ground ."]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
    (folder / "Flickr8k.token.txt").write_text("\n".join(captions) + "\n")


def write_reviews(folder):
    """A few hundred built-in sentences and some word vectors."""
    for name, lines in sentences.splits(3, {"train": 300, "dev": 60, "test": 80, "unlabelled": 25}).items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    words = sorted({word for line in (folder / "train.txt").read_text().splitlines() for word in line.split()[1:]})
    numbers = torch.randn(len(words), 6, generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "glove").mkdir()
    lines = (f"{word} {' '.join(f'{x:.4f}' for x in row)}\n" for word, row in zip(words, numbers, strict=True))
    (folder / "glove" / "glove.6B.50d.txt").write_text("".join(lines))
    (folder / "Wempty.txt").write_text("qqqq 1 2 3\n")  # has no vector for any word of the reviews


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_photos, weights_folder):
    """A small `--data` folder with everything that the scripts read, and pictures in `own`. Read-only."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "weights").symlink_to(weights_folder / "weights")
    (folder / "photos").symlink_to(tiny_photos)
    write_flickr8k(folder / "flickr8k", {"train": 12, "dev": 4, "test": 4})
    write_reviews(folder)
    (folder / "own").mkdir()
    noise(90, 60).save(folder / "own" / "cat.jpg")
    noise(70, 80, 1).save(folder / "own" / "quilt.png")
    return folder


class Script(NamedTuple):
    """module: the script. flags(data): the flags of a tiny run on `world`."""

    module: str
    flags: object

    def main(self, argv):
        importlib.import_module(self.module).main(argv)


def captioning(data):
    return ["--data", data, "--hidden", 16, "--epochs", 3, "--batch-size", 8, "--small", 6, "--beam-width", 2]


SCRIPTS = {
    "transfer_learning": Script(
        "transfer_learning",
        lambda data: ["--data", data, "--arch", ARCH, "--photos", data / "photos", "--epochs", 2, "--batch-size", 6],
    ),
    "style_transfer": Script(
        "style_transfer",
        lambda data: ["--data", data, "--content", data / "own/cat.jpg", "--style", data / "own/quilt.png",
                      "--size", 40, "--style-size", 36, "--steps", 45],
    ),
    "image_captioning": Script("image_captioning", captioning),
    "image_captioning-full": Script("image_captioning", lambda data: [*captioning(data), "--full"]),
    "sentiment": Script("sentiment", lambda data: ["--data", data, "--epochs", 2, "--seeds", 0, 1]),
}  # fmt: skip


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory):
    """Runs a script on `world`, once per session. Returns its results folder."""
    made = {}

    def run(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("finished")
            SCRIPTS[name].main([*map(str, SCRIPTS[name].flags(world)), "--results", str(made[name])])
        return made[name]

    return run
