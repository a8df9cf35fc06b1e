"""What the shared tests know of every script: its tiny input, a tiny run of it, and how two runs are compared."""

import contextlib
import importlib
import io
import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError
from data.builtin import sentences
from data.results import Checkpoint, Run
from tests import deadly
from tests.conftest import ARCH, REPO, Bomb, python_environment, random_state, snapshot

STYLE_ARCH = "squeezenet1_1"
EPOCHS, PHOTOS, BEAM = 3, 6, 2  # of a captioning run


# ---- tiny inputs, none of them to be changed; tiny_photos and weights_folder are in conftest.py


def noise(width, height, seed=0):
    """A picture of soft blotches."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def own_pictures(tmp_path_factory):
    """A folder with `cat.jpg` to paint and `quilt.png` for the style."""
    folder = tmp_path_factory.mktemp("own")
    noise(90, 60).save(folder / "cat.jpg")
    noise(70, 80, 1).save(folder / "quilt.png")
    return folder


@pytest.fixture(scope="session")
def tiny_styles(tmp_path_factory):
    """A `--data` folder: a SqueezeNet's random weights, and small pictures under the course's names."""
    from data import styles

    folder = tmp_path_factory.mktemp("data")
    for part in ("weights", "styles"):
        (folder / part).mkdir()
    torch.save(random_state(STYLE_ARCH), folder / "weights" / f"{STYLE_ARCH}.pth")
    for k, name in enumerate((styles.CONTENT, *styles.STYLES)):
        noise(60 + 5 * k, 50, k).save(folder / "styles" / f"{name}.jpg")
    return folder


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    """A `--data` folder with a tiny Flickr8k in it and no weights."""
    from tests.test_captions import write_flickr8k

    folder = tmp_path_factory.mktemp("data")
    write_flickr8k(folder / "flickr8k", {"train": 12, "val": 4, "test": 4})
    return folder


@pytest.fixture(scope="session")
def tiny_reviews(tmp_path_factory):
    """A `--data` folder: a few hundred built-in sentences and some word vectors."""
    import sentiment
    from data import reviews

    folder = tmp_path_factory.mktemp("garden")
    for name, lines in sentences.splits(3, {"train": 300, "dev": 60, "test": 80, "unlabelled": 25}).items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    words = sentiment.make_vocabulary(reviews.read_labelled(folder / "train.txt").sentences)[2:]
    numbers = torch.randn(len(words), 6, generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "glove").mkdir()
    lines = (f"{word} {' '.join(f'{x:.4f}' for x in row)}\n" for word, row in zip(words[::2], numbers, strict=False))
    (folder / "glove" / "glove.6B.50d.test.txt").write_text("".join(lines))
    return folder


# ---- the scripts


def captioning_flags(folder):
    """The flags of a tiny captioning run on the set in `folder`."""
    return {"--data": folder, "--hidden": 16, "--epochs": EPOCHS, "--batch-size": 8, "--small": PHOTOS,
            "--beam-width": BEAM, "--device": "cpu", "--lr": 0.02}  # fmt: skip


class Script(NamedTuple):
    """One command that trains.

    module: the script. inputs: names of the fixtures that `flags` takes; it gives the flags of a tiny run as a dict.
    mode: flags without a value.
    """

    module: str
    inputs: tuple
    flags: Callable
    mode: tuple = ()

    def main(self, argv):
        importlib.import_module(self.module).main(argv)


SCRIPTS = {
    "transfer_learning": Script(
        "transfer_learning", ("weights_folder", "tiny_photos"),
        lambda data, photos: {"--data": data, "--arch": ARCH, "--photos": photos, "--epochs": 2, "--batch-size": 6,
                              "--device": "cpu", "--lr": 0.005, "--backbone-lr": 0.0003},
    ),
    "style_transfer": Script(
        "style_transfer", ("tiny_styles", "own_pictures"),
        lambda data, own: {"--data": data, "--content": own / "cat.jpg", "--style": own / "quilt.png", "--size": 40,
                           "--style-size": 36, "--steps": 24, "--device": "cpu"},
    ),
    "image_captioning": Script("image_captioning", ("tiny_set",), captioning_flags),
    "image_captioning-full": Script("image_captioning", ("tiny_set",), captioning_flags, ("--full",)),
    "sentiment": Script(
        "sentiment", ("tiny_reviews",),
        lambda data: {"--data": data, "--epochs": 2, "--device": "cpu", "--seeds": (0, 1)},
    ),
}  # fmt: skip


def words(flags, *more):
    """The words of a command line: a dict of flags, each with its value or values, and what comes behind."""
    given = [(flag, *value) if isinstance(value, tuple) else (flag, value) for flag, value in flags.items()]
    return [str(word) for pair in given for word in pair] + [str(word) for word in more]


@pytest.fixture(scope="session")
def tiny_flags(request):
    """The command line of a script's tiny run, by the name of its results folder; `--results` comes behind it."""

    def flags(name):
        script = SCRIPTS[name]
        return words(script.flags(*map(request.getfixturevalue, script.inputs)), *script.mode)

    return flags


@contextlib.contextmanager
def watched_run():
    """Of a run of a script in the block: its figures by file, and a StringIO of what it prints."""
    figures, save = {}, Run.figure

    def note(run, figure, file, title, caption):
        figures[file] = figure
        save(run, figure, file, title, caption)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(Run, "figure", note)
        yield figures, out


@pytest.fixture(scope="session")
def finished_runs(tiny_flags, tmp_path_factory):
    """The finished tiny run of a script, by its name, made once a session. Not to be changed.

    Its results folder, the run's own folder in it, its figures, what it printed, its changes of files as pairs of
    kind and name.
    """
    made = {}

    def finished(name):
        if name not in made:
            results, flags = tmp_path_factory.mktemp("finished"), tiny_flags(name)
            changes = []
            with watched_run() as (figures, out), pytest.MonkeyPatch.context() as patch:
                deadly.watch(lambda kind, path, _: changes.append((kind, path.name)), patch.setattr)
                SCRIPTS[name].main([*flags, "--results", str(results)])
            made[name] = types.SimpleNamespace(
                results=results, folder=results / name, figures=figures, out=out.getvalue(), changes=changes
            )
        return made[name]

    return finished


@contextlib.contextmanager
def at_change(chosen, action):
    """While the block runs in this process, calls `action(path)` before the change of that number."""
    left = [chosen]

    def note(kind, path, content):
        left[0] -= 1
        if left[0] == -1:
            action(path)

    with pytest.MonkeyPatch.context() as patch:
        deadly.watch(note, patch.setattr)
        yield


@contextlib.contextmanager
def ctrl_c_at_save(count):
    """While the block runs in this process, Ctrl-C comes when a checkpoint was written for the `count`-th time."""
    save, left = Checkpoint.save, [count]

    def save_and_stop(checkpoint, state):
        save(checkpoint, state)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        yield


def stopped_at(name, flags, results_folder, change, sent):
    """Runs a script in a process of its own that gets the signal `sent` at that change of a file."""
    argv = [sys.executable, "-m", "tests.deadly", SCRIPTS[name].module, str(change), sent.name]
    return subprocess.run(
        [*argv, *flags, "--results", results_folder],
        cwd=REPO, env=python_environment(), capture_output=True, text=True, timeout=300, preexec_fn=hear_ctrl_c,
    )  # fmt: skip


def hear_ctrl_c():
    """In a child process: Ctrl-C is heard, although whoever runs the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# ---- what is compared

RESULTS_KEYS = {
    "script", "data", "weights", "seed", "settings", "metrics", "seconds", "versions", "plots", "models", "texts",
    "table",
}  # fmt: skip


def read(results_folder, name):
    return json.loads((results_folder / name / "results.json").read_text())


def strings(value):
    """Every string in nested dicts and lists, keys too."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def without_times(value):
    """A results.json, or a part of it, but for every entry called seconds and the table's column of that name."""
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "seconds" in value.get("columns", ()):
        column = value["columns"].index("seconds")
        columns, *rows = ([*row[:column], *row[column + 1 :]] for row in (value["columns"], *value["rows"]))
        value = {"columns": columns, "rows": rows}
    return {key: without_times(item) for key, item in value.items() if key != "seconds"}


def equal(first, second):
    """Whether nested dicts and lists of tensors, arrays and plain values are the same, bit by bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(value, second[key]) for key, value in first.items())
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def check_equal_runs(folder, other, name, without=()):
    """Two results folders hold the same run: equal numbers but for the times, and equal files of the same names.

    without: endings of files whose content may differ.
    """
    assert without_times(read(folder, name)) == without_times(read(other, name))
    ours, theirs = snapshot(folder), snapshot(other)
    assert ours.keys() == theirs.keys()
    for file, content in ours.items():
        if file.endswith(".pt"):
            assert equal(*(torch.load(at / file, weights_only=True) for at in (folder, other))), file
        elif not file.endswith(("results.json", *without)):
            assert content == theirs[file], file


def without_cache(folder):
    """What lies below `folder` but for cached features, which are kept so that a stopped run does not lose them."""
    return {name: content for name, content in snapshot(folder).items() if "cache" not in Path(name).parts}


def refused(done, *named):
    """Exit status 2 and exactly one printable line on stderr, which names all of `named`."""
    assert done.status == 2, done.out
    assert done.err.startswith("error: ") and done.err.endswith("\n") and done.err[:-1].isprintable(), done.err
    assert all(str(name) in done.err for name in named), done.err
    return True


def check_refused(command, main, argv, named, folder, look=snapshot):
    """Runs a command that must be refused with an error that names `named`, and nothing below `folder` changes."""
    before = look(folder)
    assert refused(command(main, *argv), named)
    assert look(folder) == before  # no mark of a Bomb either: nothing in a file was run


def check_one_error(call, *named):
    """`call()` raises a DataError of one printable line, which names all of `named`. Returns the line."""
    with pytest.raises(DataError) as error:
        call()
    message = str(error.value)
    assert message.isprintable() and all(str(name) in message for name in named), message
    return message


# ---- spoilt input


def cut(path):
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def write(path, content):
    """A file with this content, bytes or what torch saves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return path


def saved(content, **options):
    """The bytes that torch.save makes of `content`."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def saved_by_numpy(save, content):
    """The bytes that np.save or np.savez makes of `content`, an array of Python objects."""
    buffer = io.BytesIO()
    save(buffer, np.array(content, object))
    return buffer.getvalue()


CODE = {  # files that run code in careless hands: their bytes by the mark of a Bomb
    "a pickle": lambda mark: pickle.dumps(Bomb(mark)),
    "a pickle of an old protocol": lambda mark: pickle.dumps(Bomb(mark), protocol=0),
    "an object saved by PyTorch": lambda mark: saved({"state": Bomb(mark)}),
    "an object saved by an old PyTorch": lambda mark: saved(
        {"state": Bomb(mark)}, _use_new_zipfile_serialization=False
    ),
    "an object saved by numpy": lambda mark: saved_by_numpy(np.save, [Bomb(mark)]),
    "an object packed by numpy": lambda mark: saved_by_numpy(np.savez, [Bomb(mark)]),
}


class Table(dict):
    """Cases of bad input: name -> a function of a test's world that gives a command line and what its error names."""

    def case(self, name):
        """Notes the decorated function."""
        return lambda make: self.setdefault(name, make)


def world_folder(tmp_path, name):
    """A results folder in which an earlier run of the script `name` lies."""
    folder = tmp_path / "results"
    (folder / name).mkdir(parents=True)
    (folder / name / "results.json").write_text("earlier")
    return folder


@contextlib.contextmanager
def largest_file(size):
    """No file can grow beyond `size` bytes while the block runs, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def finished_copy(finished_runs, tmp_path):
    """A copy, to write to, of the results folder of a script's finished tiny run, by its name."""
    return lambda name: shutil.copytree(finished_runs(name).results, tmp_path / "finished")
