"""Problem 1's photos: ants and bees, your own folder, or the built-in drawings, in the ImageFolder layout."""

import os
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from common.cli import UserError, shown, user_errors
from data import choose, drawn, fingerprint, sha256, visible
from data.drawn import creatures

COUNTS = {"train": {"ants": 124, "bees": 120}, "val": {"ants": 70, "bees": 83}}  # as in the real set

Image.init()
# Without the formats that Pillow only recognizes or needs another program for.
FORMATS = sorted(set(Image.OPEN) - {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
SUFFIXES = {suffix for suffix, format in Image.registered_extensions().items() if format in FORMATS}


def open_photo(path):
    """A photo as an RGB image, rotated as its EXIF data says.

    Gray levels of 16 or 32 bits and floats are scaled to 8 bits; transparent parts become white. Raises UserError if
    the file is missing, truncated or not a picture, MemoryError if memory runs out.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd EXIF data and very large photos
            with Image.open(path, formats=FORMATS) as image:
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _as_rgb(image)
    except FileNotFoundError:
        raise UserError(f"{path}: no such picture; check the name") from None
    except Image.UnidentifiedImageError:
        with open(path, "rb") as file:
            phone = file.read(12)[4:] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
        what = "a HEIC photo, as phones take them" if phone else "not a picture that Pillow can read"
        raise UserError(f"{path}: {what}; save it again as JPEG or PNG, or remove it") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        if getattr(error, "errno", None):  # a system error: permission denied, too many open files
            raise UserError(f"{path}: {error.strerror}") from None
        raise UserError(f"{path}: cannot be read ({error or type(error).__name__}); replace or remove it") from None


def _as_rgb(image):
    if image.mode[0] in "IF":  # integers of 16 or 32 bits, or floats; convert() would clip at 255
        levels = np.asarray(image, np.float64)
        if not np.isfinite(levels).all():
            raise ValueError("it holds NaN or infinity")
        black, white = levels.min(), levels.max()
        if image.mode[0] == "I":  # 8, 10, 12, 14 or 16 bits
            black, white = 0, next((2**bits - 1 for bits in range(8, 17, 2) if white < 2**bits), white)
        elif 0 <= black and 0.1 < white <= 1:
            black, white = 0, 1
        levels = (levels.clip(black, white) - black) * (255 / max(white - black, 1e-12))
        image = Image.fromarray(levels.astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def files_below(folder):
    """Yields the paths of the visible files below `folder`, sorted within each folder.

    Follows links to folders, but lists no folder twice and no parent of `folder`.
    """
    above = Path(folder).parent.resolve()
    seen = {above, *above.parents}
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(filter(visible, folders)) if (real := Path(root).resolve()) not in seen else []
        yield from (os.path.join(root, name) for name in sorted(filter(visible, names)) if real not in seen)
        seen.add(real)


class PhotoFolder(ImageFolder):
    """An ImageFolder that skips hidden files and folders."""

    def find_classes(self, directory):
        with user_errors(directory), os.scandir(directory) as entries:
            classes = sorted(e.name for e in entries if e.is_dir() and visible(e.name))
        if not classes:
            raise UserError(f"{directory}: holds no class folders; make one folder per class, with its photos in it")
        return classes, {name: k for k, name in enumerate(classes)}

    @staticmethod
    def make_dataset(directory, class_to_idx, extensions=None, is_valid_file=None, allow_empty=False):
        paths = ((path, k) for name, k in class_to_idx.items() for path in files_below(Path(directory, name)))
        return [(path, k) for path, k in paths if is_valid_file(path)]


@dataclass(frozen=True)
class Photos:
    """Two ImageFolders with the same classes. name: for plots. real: whether they are photos, not drawings."""

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
    """The `Photos` for training and validation.

    data: the script's `--data`. photos: a folder with `train/<class>/` and `val/<class>/` to use instead, or None.
    cache: the folder for the built-in set. Prints the kinds of skipped files in `photos`. Raises UserError if the set
    is incomplete or a photo cannot be read.
    """
    if photos is not None:
        paths = (Path(path) for split in ("train", "val") for path in files_below(Path(photos, split)))
        if other := Counter(path.suffix.lower() for path in paths if path.suffix.lower() not in SUFFIXES):
            kinds = ", ".join(f"{ending or 'no ending'} ({count})" for ending, count in other.most_common(5))
            print(f"{shown(photos)}: skipped files that Pillow cannot read: {kinds}; convert photos to JPEG")
        return read(photos, f"photos in {shown(Path(photos).resolve().name)}", SUFFIXES)
    folder = choose("insects", data)
    if folder:
        return read(folder, "hymenoptera_data (ants and bees, real photos)", {".jpg"})
    return replace(read(draw(cache), "built-in ants and bees (drawn)", {".png"}), real=False)


def read(folder, name, suffixes):
    """The `Photos` in `folder/train` and `folder/val` with a file name ending in `suffixes`; ignores hidden files.

    Opens every photo once. Raises UserError if a split or a class is missing or empty, or a photo is broken.
    """
    splits, broken = [], []
    for root in (Path(folder, "train"), Path(folder, "val")):
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; {folder} needs train/<class>/ and val/<class>/ with photos in it")
        is_photo = lambda path: Path(path).suffix.lower() in suffixes  # noqa: E731
        split = PhotoFolder(root, loader=open_photo, is_valid_file=is_photo, allow_empty=True)
        if empty := set(range(len(split.classes))) - set(split.targets):
            label = split.classes[min(empty)]
            raise UserError(f"{root / label}: holds no photo; put photos into this class folder, or remove it")
        splits.append(split)
    train, val = splits
    if odd := sorted(set(train.classes) ^ set(val.classes)):
        raise UserError(f"{folder}: class {odd[0]!r} is not in both train and val; both need the same class folders")
    if len(train.classes) < 2:
        raise UserError(f"{folder}: has only one class ({train.classes[0]}); add another class folder")
    for path, _ in tqdm([*train.samples, *val.samples], desc="checking photos", leave=False, delay=2):
        try:
            open_photo(path)
        except UserError as error:
            broken.append(error)
    if broken:
        more = f" ({len(broken) - 1} more cannot be read)" if len(broken) > 1 else ""
        raise UserError(f"{broken[0]}{more}")
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
