"""Everything that touches the disk or the network: readers, built-in data sets, downloads, results.

Nothing here imports a script or a numpy layer.
"""

import os
import signal
from pathlib import Path

HOME = Path(__file__).parent  # where data is looked for when --data is not given, and where downloads go

# The real data sets: the files or folders that make one up, below the data folder. One of them there makes the set
# "there"; whether it is whole is for its reader to say.
SETS = {
    "insects": ("hymenoptera_data",),
    "styles": ("styles",),
    "sentences": ("train.txt", "dev.txt", "test.txt", "unlabelled.txt"),
    "glove": ("glove",),
    "flickr8k": ("flickr8k",),
    "coco": ("coco_captioning",),
    "weights": ("weights",),
}


class DataError(Exception):
    """Something about the user's files, flags or machine is wrong; the message says in one line what to do."""


def stop_early(*_):
    """What Ctrl-C does until `run_main` takes over: one line and exit status 130, whatever is being imported."""
    os.write(2, b"stopped before anything was begun\n")
    os._exit(130)


def catch_ctrl_c():
    """Called by a script before its imports: PyTorch's take seconds, and Ctrl-C would end in a long traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so in the background
        signal.signal(signal.SIGINT, stop_early)


def locate(name, root=HOME):
    """The real data set `name` below the folder `root`, or None where no part of it is there.

    Returns the set's own folder, or `root` for a set that is several files (`sentences`).
    """
    parts = SETS[name]
    if not any((Path(root) / part).exists() for part in parts):
        return None
    return Path(root) / parts[0] if len(parts) == 1 else Path(root)


def check_folder(root):
    """Raises DataError where `--data` names a folder that is not there."""
    if root not in (None, "builtin") and not Path(root).is_dir():
        raise DataError(f"--data {root}: no such folder; leave --data out, or use --data builtin")


def choose(name, root=None):
    """The folder to read the data set `name` from, or None for the built-in stand-in.

    root: the script's `--data`: None takes the real set under `data/` if it is there, `"builtin"` never does, and a
    folder must hold it.
    Raises DataError where the folder, or the set in it, is missing.
    """
    if root == "builtin":
        return None
    if root is None:
        return locate(name)
    check_folder(root)
    found = locate(name, root)
    if found is None:
        raise DataError(
            f"--data {root}: holds no {' or '.join(SETS[name])}; use --data builtin, or get it: "
            f"python -m data.download {name} --data {root}"
        )
    return found
