"""The built-in data sets: drawn or written by code from a fixed seed, for use without the real data."""

from pathlib import Path

from data import fingerprint, made


def version():
    """A digest of the code in this folder: sets drawn by other code are drawn again."""
    return fingerprint([path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))])


def made_here(cache, name, make):
    """The folder of the built-in set `name` in the folder `cache`; the first call fills it with `make(folder)`."""
    return made(cache, f"drawn-{name}", make, version())
