"""A script that gets a signal at a chosen change of a file: python -m tests.deadly MODULE CHANGE SIGNAL [FLAG ...]

The changes are counted from 0; see `watch` for what is one.
"""

import importlib
import itertools
import os
import signal
import sys
from pathlib import Path

from data.files import TEMPORARY
from data.results import run_main

CHANGES = (Path, "write_bytes"), (os, "replace"), (Path, "unlink")
KINDS = "write_bytes", "replace", "move", "unlink"


def watch(note, patch=setattr):
    """Calls `note(kind, path, content)` before each change of a file: which of `KINDS` it is, of which file.

    A file of `data.files.write_bytes` is three changes: written under its temporary name, renamed ("replace"), the
    temporary name removed if it is still there. A finished run's file that takes its place is a "move".
    patch: replaces an attribute (owner, name, value).
    """

    def watched(kind, action):
        def act(path, *args, **options):
            moved = kind == "replace" and not Path(path).name.startswith(TEMPORARY)
            target, content = Path(args[0] if kind == "replace" else path), args[0] if kind == "write_bytes" else None
            note("move" if moved else kind, target, content)
            return action(path, *args, **options)

        return act

    for owner, kind in CHANGES:
        patch(owner, kind, watched(kind, getattr(owner, kind)))


def main():
    name, chosen, sent = sys.argv[1], int(sys.argv[2]), signal.Signals[sys.argv[3]]
    module = importlib.import_module(name)
    count = itertools.count()

    def note(kind, path, content):
        if next(count) == chosen:
            if kind == "write_bytes":  # in the middle of the file
                with open(path, "wb") as file:
                    file.write(content[: len(content) // 2])
            os.kill(os.getpid(), sent)

    watch(note)
    run_main(lambda: module.main(sys.argv[4:]))


if __name__ == "__main__":
    main()
