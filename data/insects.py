"""Problem 1's photos: ants and bees, a folder of one's own, or the built-in drawings, in the ImageFolder layout."""

import contextlib
import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from data import DataError, builtin, choose
from data.builtin import creatures
from data.files import fingerprint, new_folder, sha256, user_errors
from data.results import shown

COUNTS = {
    "train": {"ants": 124, "bees": 120},
    "val": {"ants": 70, "bees": 83},
}  # of the built-in set, as in the real one
Image.init()
# What Pillow reads by itself: not EPS, for which it would start Ghostscript, nor IPTC, which may hold one, nor what it
# only knows by name.
FORMATS = tuple(sorted(set(Image.OPEN) - {"EPS", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}))
SUFFIXES = frozenset(suffix for suffix, format in Image.registered_extensions().items() if format in FORMATS)


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


def open_photo(path):
    """A photo as an upright RGB image, whatever it is stored as: rotated (EXIF), grey, palette, alpha, CMYK, 16 bit.

    Raises DataError, naming the file, where it is missing, broken, cut short, or so large that it may be an attack.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise DataError(f"{path}: is a folder or the like, not a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an odd EXIF block: it is not needed
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if max(image.size) > 100 * min(image.size):
                    raise ValueError(f"{image.width} x {image.height} pixels, too long and thin")
                with _silenced() if image.format == "TIFF" else contextlib.nullcontext():
                    image.load()
                ImageOps.exif_transpose(image, in_place=True)
                upright = image
                if upright.mode.startswith("I"):  # 16 bit grey; Pillow would cut it off at 255
                    levels = np.asarray(upright, np.float64)
                    white = 255 if levels.max() <= 255 else max(65535, levels.max())
                    np.clip(levels, 0, None, out=levels)
                    levels *= 255 / white
                    upright = Image.fromarray(levels.astype(np.uint8))
                if upright.has_transparency_data:
                    rgba = upright.convert("RGBA")
                    upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
                return upright.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: not a picture that Pillow can read; replace or remove it") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: has too many pixels; shrink or remove it") from None
    except Exception as error:  # Pillow's readers raise whatever broken bytes lead them to
        raise DataError(
            f"{path}: broken or cut short ({error or type(error).__name__}); replace or remove it"
        ) from None


@contextlib.contextmanager
def _silenced():
    """What libtiff itself writes to stderr of a broken file is dropped: the error that follows says enough."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError):  # there is no stderr
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def draw(cache):
    """The folder of the built-in ants and bees, drawn from a fixed seed on the first call (some seconds)."""
    folder = Path(cache) / f"builtin-insects-{builtin.version()}"
    if not folder.is_dir():
        jobs = [
            (f"{split}/{kind}/{kind}_{k:03d}.png", kind, [1, s, c, k])
            for s, (split, counts) in enumerate(COUNTS.items())
            for c, (kind, count) in enumerate(counts.items())
            for k in range(count)
        ]
        with new_folder(folder) as unfinished:
            for name, kind, seed in tqdm(jobs, desc="drawing the built-in ants and bees", leave=False):
                target = unfinished / name
                image = creatures.draw_photo(kind, np.random.default_rng(seed))
                with user_errors(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    image.save(target)
    return folder
