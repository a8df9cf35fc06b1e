"""Photos of any kind as the scripts take them: upright, RGB, and a broken or hostile file is one line."""

import contextlib
import os
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data import DataError

Image.init()
# What Pillow reads by itself: not EPS, for which it would start Ghostscript, nor IPTC, which may hold one, nor what it
# only knows by name.
FORMATS = tuple(sorted(set(Image.OPEN) - {"EPS", "IPTC", "BUFR", "GRIB", "HDF5", "MPEG", "WMF"}))
SUFFIXES = frozenset(suffix for suffix, format in Image.registered_extensions().items() if format in FORMATS)


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
                return _as_rgb(image)
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


def _as_rgb(image):
    """An image of any mode as RGB: grey of 16 bits scaled and not cut off at 255, what is transparent on white."""
    if image.mode.startswith("I"):
        levels = np.asarray(image, np.float64)
        white = 255 if levels.max() <= 255 else max(65535, levels.max())
        np.clip(levels, 0, None, out=levels)
        levels *= 255 / white
        image = Image.fromarray(levels.astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


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
