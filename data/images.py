"""Problem 1's photos: ants and bees, a folder of one's own, or the built-in drawings, in the ImageFolder layout."""

import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from common.cli import UserError, shown, user_errors
from data import choose, drawn, fingerprint, sha256
from data.drawn import creatures

COUNTS = {"train": {"ants": 124, "bees": 120}, "val": {"ants": 70, "bees": 83}}  # of the built-in set, as of the real

Image.init()
# Without the formats that Pillow only recognizes, or gives to another program.
FORMATS = sorted(set(Image.OPEN) - {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
SUFFIXES = {suffix for suffix, format in Image.registered_extensions().items() if format in FORMATS}
SUFFIXES |= {".heic", ".heif"}  # a phone's photos, which Pillow cannot read: an error is better than to ignore them


def open_photo(path):
    """A photo as an RGB image, upright as EXIF says, 16-bit grey scaled to 8 bits, transparent parts on white.

    Raises UserError if the file is missing, cut, or not a picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF blocks, and of photos with many pixels
            with Image.open(path, formats=FORMATS) as image:
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _as_rgb(image)
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: not a picture that Pillow can read; save it as JPEG, or remove it") from None
    except Exception as error:  # Pillow raises a dozen kinds on broken files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); replace or remove it") from None


def _as_rgb(image):
    if image.mode.startswith("I"):  # 16 or 32 bits a pixel; convert() would cut off at 255
        levels = np.asarray(image, np.float64).clip(0)
        white = 255 if levels.max() <= 255 else max(65535, levels.max())
        image = Image.fromarray((levels * (255 / white)).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


class PhotoFolder(ImageFolder):
    """An ImageFolder that ignores hidden class folders and `__MACOSX`, which other programs leave there."""

    def find_classes(self, directory):
        with user_errors(directory), os.scandir(directory) as entries:
            classes = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith((".", "__")))
        if not classes:
            raise UserError(f"{directory}: holds no class folders; make one folder a class, with its photos in it")
        return classes, {name: k for k, name in enumerate(classes)}


@dataclass(frozen=True)
class Photos:
    """Two ImageFolders of the same classes. name: what plots call them. real: whether they are photos, not drawings."""

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
        paths = [(split.root, Path(path)) for split in (self.train, self.val) for path, _ in split.samples]
        return fingerprint([(path.relative_to(root).as_posix(), sha256(path)) for root, path in paths])


def load(data, photos, cache):
    """The `Photos` to train and validate on.

    data: the script's `--data`. photos: a folder with `train/<class>/` and `val/<class>/` to take instead, or None.
    cache: the folder for the built-in set. Raises UserError if the set is incomplete or a photo cannot be read.
    """
    if photos is not None:
        return read(photos, f"photos in {shown(Path(photos).resolve().name)}", SUFFIXES)
    folder = choose("insects", data)
    if folder:
        return read(folder, "hymenoptera_data (ants and bees, real photos)", {".jpg"})
    return replace(read(draw(cache), "built-in ants and bees (drawn)", {".png"}), real=False)


def read(folder, name, suffixes):
    """The `Photos` in `folder/train` and `folder/val`, of the file name endings `suffixes`; hidden ones are ignored.

    Opens each once. Raises UserError if a split or a class is missing or empty, or a photo is broken.
    """

    def is_photo(path):
        parts = Path(path).relative_to(folder).parts
        return Path(path).suffix.lower() in suffixes and not any(part[0] == "." or part == "__MACOSX" for part in parts)

    splits = []
    for root in (Path(folder, "train"), Path(folder, "val")):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; {folder} needs train/<class>/ and val/<class>/ with photos in it")
        split = PhotoFolder(root, loader=open_photo, is_valid_file=is_photo, allow_empty=True)
        if empty := set(range(len(split.classes))) - set(split.targets):
            label = split.classes[min(empty)]
            raise UserError(f"{root / label}: holds no photo; put photos into this class folder, or remove it")
        splits.append(split)
    train, val = splits
    if odd := sorted(set(train.classes) ^ set(val.classes)):
        raise UserError(f"{folder}: class {odd[0]!r} is not in both train and val; the two need the same class folders")
    if len(train.classes) < 2:
        raise UserError(f"{folder}: has only one class ({train.classes[0]}); add the class folder of another")
    for path, _ in tqdm([*train.samples, *val.samples], desc="checking photos", leave=False, delay=2):
        open_photo(path)
    return Photos(train, val, name)


def draw(cache):
    """The folder of the built-in ants and bees, drawn from a fixed seed on the first call (some seconds)."""

    def make(folder):
        for s, (split, counts) in enumerate(COUNTS.items()):
            for c, (kind, count) in enumerate(counts.items()):
                (folder / split / kind).mkdir(parents=True)
                for k in tqdm(range(count), desc=f"drawing the built-in {kind}, {split}", leave=False):
                    image = creatures.draw_photo(kind, np.random.default_rng([1, s, c, k]))
                    image.save(folder / split / kind / f"{kind}_{k:03d}.png")

    return drawn.made_here(cache, "insects", make)
