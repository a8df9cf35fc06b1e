"""The built-in data sets: drawn or written by code from a fixed seed, for users who have no real data yet."""

from pathlib import Path

from data import fingerprint, made


def version():
    """Changes with the code of this folder, so that a set drawn by other code is drawn again."""
    return fingerprint([path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))])


def made_here(cache, name, make):
    """The folder of the built-in set `name` in the folder `cache`; on the first call `make(folder)` fills it."""
    return made(cache, f"drawn-{name}", make, version())
