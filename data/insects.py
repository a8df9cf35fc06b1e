"""Problem 1's photos: ants and bees, a folder of one's own, or the built-in drawings, in the ImageFolder layout."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from data import DataError, builtin, choose
from data.builtin import creatures
from data.files import fingerprint, sha256, user_errors
from data.photos import SUFFIXES, open_photo
from data.results import shown

COUNTS = {"train": {"ants": 124, "bees": 120}, "val": {"ants": 70, "bees": 83}}  # of the built-in set, as of the real


class PhotoFolder(ImageFolder):
    """An ImageFolder that passes over hidden class folders and `__MACOSX`, which tools leave behind."""

    def find_classes(self, directory):
        classes = [name for name in super().find_classes(directory)[0] if not name.startswith((".", "__"))]
        if not classes:
            raise FileNotFoundError(directory)
        return classes, {name: k for k, name in enumerate(classes)}


@dataclass(frozen=True)
class Photos:
    """Two ImageFolder data sets of the same classes, and what a plot should call them."""

    train: ImageFolder
    val: ImageFolder
    name: str
    real: bool = True

    @property
    def classes(self):
        return self.train.classes

    @property
    def fingerprint(self):
        """Changes when a photo is added, removed, renamed or replaced."""
        return fingerprint(
            [
                (Path(path).relative_to(split.root).as_posix(), sha256(path))
                for split in (self.train, self.val)
                for path, _ in split.samples
            ]
        )


def load(data, photos, cache):
    """The photos that a run trains on and is measured on.

    data: the script's `--data`. photos: `--photos`, a folder with `train/<class>/` and `val/<class>/`, or None.
    cache: the folder where the built-in set is drawn if it is not there yet.
    Raises DataError, naming the folder or the photo, on an incomplete set or a photo that cannot be read.
    """
    if photos is not None:
        return read(photos, f"photos in {shown(Path(photos).resolve().name)}", SUFFIXES)
    folder = choose("insects", data)
    if folder:
        return read(folder, "hymenoptera_data (ants and bees, real photos)", {".jpg"})
    return replace(read(draw(cache), "built-in ants and bees (drawn)", {".png"}), real=False)


def read(folder, name, suffixes):
    """The `Photos` in `folder/train` and `folder/val`; each photo is opened once, to find a broken one now.

    name: what plots call them. suffixes: the file name endings, lower case, that count as photos; others are passed by.
    Raises DataError where a split or a class is missing or empty, or a photo is broken.
    """
    splits = []
    for split in ("train", "val"):
        root = Path(folder) / split
        if not root.is_dir():
            raise DataError(
                f"{root}: no such folder; {folder} should hold train/<class>/ and val/<class>/ with photos in them"
            )
        with user_errors(root):
            try:
                splits.append(
                    PhotoFolder(root, loader=open_photo, is_valid_file=lambda p: Path(p).suffix.lower() in suffixes)
                )
            except FileNotFoundError:
                raise DataError(f"{root}: {_which_class(root, suffixes)}") from None
    train, val = splits
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))[0]
        raise DataError(f"{folder}: class {odd!r} is not in both train and val; the two need the same class folders")
    if len(train.classes) < 2:
        raise DataError(f"{folder}: only one class ({train.classes[0]}); there must be two or more to tell apart")
    for path, _ in tqdm([*train.samples, *val.samples], desc="checking photos", leave=False, delay=2):
        open_photo(path)
    return Photos(train, val, name)


def _which_class(root, suffixes):
    """Says what is wrong with a split that ImageFolder refuses."""
    with user_errors(root):
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if not any(path.suffix.lower() in suffixes and path.is_file() for path in folder.rglob("*")):
                return f"class {folder.name!r} holds no photo; fill or remove the folder {folder}"
    return "holds no class folders; there should be one folder a class, with photos in it"


def draw(cache):
    """The folder of the built-in ants and bees, drawn from a fixed seed on the first call (some seconds)."""
    return builtin.made(cache, "insects", _draw)


def _draw(folder):
    jobs = [
        (f"{split}/{kind}/{kind}_{k:03d}.png", kind, [1, s, c, k])
        for s, (split, counts) in enumerate(COUNTS.items())
        for c, (kind, count) in enumerate(counts.items())
        for k in range(count)
    ]
    for name, kind, seed in tqdm(jobs, desc="drawing the built-in ants and bees", leave=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        creatures.draw_photo(kind, np.random.default_rng(seed)).save(folder / name)
