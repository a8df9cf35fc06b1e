"""The data sets: a reader for each, built-in sets made by code, downloads. Imports only `common.cli` from `common`."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from common.cli import UserError, user_errors

HOME = Path(__file__).parent  # the default for --data and for downloads
SETS = {  # the files or folders of each real set, below the data folder
    "insects": ("hymenoptera_data",),
    "styles": ("styles",),
    "sentences": ("train.txt", "dev.txt", "test.txt", "unlabelled.txt"),
    "glove": ("glove",),
    "flickr8k": ("flickr8k",),
    "coco": ("coco_captioning",),
    "weights": ("weights",),
}


def locate(name, root=None):
    """The folder of the real data set `name` below `root` (default: data/), or None if no part of it exists."""
    root, (first, *others) = Path(root or HOME), SETS[name]
    there = any((root / part).exists() for part in (first, *others))
    return (root if others else root / first) if there else None


def visible(name):
    """Whether a file or folder belongs to the data: not hidden, and not made by another program."""
    return not name.startswith(".") and name not in ("__MACOSX", "__pycache__")


def check_folder(root):
    """Raises UserError if `--data` names a folder that does not exist."""
    if root not in (None, "builtin") and not Path(root).is_dir():
        raise UserError(f"--data {root}: no such folder; leave --data out, or use --data builtin")


def choose(name, root=None):
    """The folder to read the data set `name` from, or None for the built-in one.

    root: the script's `--data`. None uses the real set in data/ if it is there, "builtin" never does, and a folder must
    contain the set. Raises UserError if the folder, or the set in it, is missing.
    """
    if root == "builtin":
        return None
    check_folder(root)
    found = locate(name, root)
    if root is not None and found is None:
        below = [folder for folder in sorted(Path(root).iterdir()) if folder.is_dir() and locate(name, folder)]
        inside = any(Path(root).absolute().name in parts for parts in SETS.values())  # a set's own folder
        near = [Path(root).absolute().parent] if inside else below
        get = f"use --data builtin, or get it: python -m data.download {name} --data {root}"
        cure = f"did you mean --data {near[0]}?" if near else get
        raise UserError(f"--data {root}: holds no {' or '.join(SETS[name])}; {cure}")
    return found


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with user_errors(path), open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(*things):
    """A short hexadecimal digest of the `repr` of `things`."""
    return hashlib.sha256(repr(things).encode()).hexdigest()[:12]


def lines(path):
    """Yields (number, text) for each line, without line end or byte-order mark; skips blank lines at the end.

    Raises UserError if the file is missing, an archive, or not UTF-8 text.
    """
    path, blank = Path(path), []
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; it should be a text file")
    with user_errors(path), open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if "\0" in line or not line.isascii() and any("\ud800" <= letter <= "\udfff" for letter in line):
                packed = number == 1 and line.startswith(("PK\3\4", "\x1f\udc8b"))
                message = "an archive; unpack it" if packed else "not UTF-8 text; save the file as UTF-8"
                raise UserError(f"{path}, line {number}: is {message}")
            blank.append((number, line.removesuffix("\n")))
            if line.strip():
                yield from blank
                blank.clear()


def made(cache, name, make, version):
    """The folder `<cache>/<name>-<version>`; the first call fills it with `make(folder)`, completely or not at all."""
    folder = Path(cache, f"{name}-{version}")
    if not folder.is_dir():
        with user_errors(cache):
            Path(cache).mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
        try:
            with user_errors(folder):
                make(scratch)
                if not folder.is_dir():  # another run may have made it
                    scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder
