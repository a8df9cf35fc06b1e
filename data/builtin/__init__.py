"""The built-in data sets: drawn or written by code from a fixed seed, for those who have no real data yet."""

from pathlib import Path

from data.files import fingerprint, new_folder, user_errors


def version():
    """Changes with the code of this folder, so that a set drawn by other code is not taken for this one."""
    return fingerprint([path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))])


def made(cache, name, make):
    """The folder of the built-in set `name` in the folder `cache`; on the first call `make(folder)` fills it.

    Raises DataError where it cannot be written.
    """
    folder = Path(cache) / f"builtin-{name}-{version()}"
    if not folder.is_dir():
        with new_folder(folder) as unfinished, user_errors(folder):
            make(unfinished)
    return folder
