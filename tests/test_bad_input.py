"""Every flag of every command, given wrongly: one line on stderr that says what is wrong, status 2, nothing written."""

import shutil
from pathlib import Path

import pytest
import torch

from data import download
from data.results import Parser
from tests.conftest import ARCH, Bomb, run_python, snapshot
from tests.runs import (
    CODE,
    SCRIPTS,
    STYLE_ARCH,
    Table,
    check_refused,
    cut,
    noise,
    saved,
    without_cache,
    words,
    world_folder,
    write,
)  # fmt: skip
from tests.test_insects import NO_PHOTOS

COMMON = {"--data": "folder", "--results": "results", "--device": "device", "--resume": "switch", "--quick": "switch"}
FLAGS = {  # what each takes
    "transfer_learning": COMMON | {
        "--seed": "seed", "--epochs": "count", "--batch-size": "count", "--lr": "rate", "--backbone-lr": "rate",
        "--scenarios": "choice", "--arch": "arch", "--photos": "folder", "--workers": "seed", "--predict": "photo",
        "--model": "file",
    },
    "style_transfer": COMMON | {
        "--seed": "seed", "--steps": "count", "--content": "photo", "--style": "photo", "--preset": "choice",
        "--init": "choice", "--keep-colors": "switch", "--size": "count", "--style-size": "count",
        "--content-layer": "layer", "--content-weight": "rate", "--style-layers": "layer", "--style-weights": "rate",
        "--tv-weight": "rate",
    },
    "image_captioning": COMMON | {
        "--seed": "seed", "--full": "switch", "--cells": "choice", "--backend": "choice", "--epochs": "count",
        "--batch-size": "count", "--lr": "rate", "--hidden": "count", "--dropout": "rate", "--small": "count",
        "--beam-width": "count", "--set": "choice", "--coco-features": "choice", "--photos": "folder",
        "--captions": "file", "--min-count": "count", "--arch": "arch", "--caption": "photo", "--model": "file",
    },
    "sentiment": COMMON | {
        "--seeds": "seed", "--seed": "seed", "--epochs": "count", "--models": "choice", "--glove": "file",
        "--predict": "text", "--predict-file": "file", "--model": "file",
    },
    "data.download": {"names": "name", "--data": "target", "--arch": "arch", "--force": "switch"},
}  # fmt: skip

WRONG = ["-1", "x", "1.5", "1e3", "nan", "inf", "", "99999999999999999999"]  # where a whole number is wanted
VALUES = {
    "count": ["0", *WRONG],
    "seed": WRONG,
    "layer": ["13", "-2", *WRONG],
    "rate": ["-1", "-0.1", "x", "nan", "inf", "-inf", "1e999", "1,5", ""],
    "choice": ["nosuch", "", "0"],
    "device": ["tpu", "CPU", "", *["cuda"] * (not torch.cuda.is_available())],
    "arch": ["nosuch", "", "../resnet18", "fcn_resnet50", "resnet18 ", "load_state_dict_from_url"],
    "text": ["", "  "],
    "name": ["nosuch", "../insects", "Insects", "all,insects"],
}
MORE_VALUES = {  # of the right kind, and yet wrong
    ("transfer_learning", "--workers"): ["257"],
    ("transfer_learning", "--scenarios"): ["freeze,finetune"],
    ("style_transfer", "--size"): ["8", "100000", "999999999"],
    ("style_transfer", "--style-size"): ["3", "100000"],
    ("style_transfer", "--content-layer"): ["999999999999"],
    ("style_transfer", "--style-layers"): ["1"],
    ("style_transfer", "--style-weights"): ["1"],
    ("style_transfer", "--preset"): ["The_Scream", "../the_scream"],
    ("style_transfer", "--init"): ["random"],
    ("image_captioning", "--lr"): ["1e9"],
    ("image_captioning", "--dropout"): ["1"],
    ("image_captioning", "--hidden"): ["2147483647"],
    ("image_captioning", "--beam-width"): ["2147483647"],
    ("image_captioning", "--min-count"): ["99"],
    ("image_captioning", "--cells"): ["gru", "rnn,lstm"],
    ("image_captioning", "--arch"): ["resnet18"],
    ("sentiment", "--models"): ["gru"],
    ("data.download", "--data"): ["builtin"],
}


class World:
    """Good input of one command: its tiny run, an earlier run's results, a finished run's model."""

    predicted = {  # the flag, the model of the finished run
        "transfer_learning": ("--predict", "freeze.pt"),
        "image_captioning": ("--caption", "lstm.pt"),
        "sentiment": ("--predict", "models.pt"),
    }

    def __init__(self, name, get, tmp_path):
        self.name, self.get, self.tmp, self.mark = name, get, tmp_path, tmp_path / "mark"
        self.results = world_folder(tmp_path, name)

    def good(self, flag, *more):
        """A good command line that reads `flag`, and what comes behind."""
        if self.name == "data.download":
            return [*["insects"] * (flag == "--data"), *words({"--data": self.tmp / "downloads"}, *more)]
        if flag in ("--predict", "--caption", "--model", "--predict-file"):
            asks, _ = self.predicted[self.name]
            given = {asks: self.asked(), "--model": self.model()} if flag != "--predict-file" else {}
            return words(given | {"--results": self.results}, *more)
        pair = self.name == "image_captioning" and flag in ("--photos", "--captions")
        own = {"--photos": self.photos(), "--captions": self.captions()} if pair else {}
        return [*self.get("tiny_flags")(self.name), *words(own | {"--results": self.results}, *more)]

    def photos(self):
        return self.get("tiny_photos") if self.name == "transfer_learning" else self.get("tiny_set") / "flickr8k/images"

    def captions(self):
        return self.get("tiny_set") / "flickr8k" / "Flickr8k.token.txt"

    def asked(self):
        return "good" if self.name == "sentiment" else next(self.photos().rglob("*.*g"))

    def model(self, name=None):
        name = name or self.name
        return self.get("finished_runs")(name).folder / self.predicted[name][1]


# ---- the cases: name -> a function of a World that gives a command line and what the error must name

CASES = {name: Table() for name in FLAGS}


def note(name, case, *given, named=None):
    """A case: a good command line with `given` behind it; the error names the first of these, or `named`."""
    CASES[name][case] = lambda world: (world.good(given[0], *given), named or given[0])


def note_path(name, flag, case, path, named):
    """A case: `flag` names the path that `path(tmp)` gives; the error names `named`."""
    CASES[name][f"{flag}: {case}"] = lambda world: (world.good(flag, flag, path(world.tmp)), named)


TOO_LONG = {
    "a name of 300 letters": (lambda tmp: tmp / ("n" * 300), "nnn"),
    "a path of 6,000 letters": (lambda tmp: tmp / ("n/" * 3000), "n/n/n"),
}
IN_THE_WAY = {
    "a file": (lambda tmp: write(tmp / "notes.txt", b"notes"), "notes.txt"),
    "below a file": (lambda tmp: write(tmp / "notes.txt", b"notes") / "deeper", "notes.txt"),
}
ABSENT = {
    "missing": (lambda tmp: tmp / "nosuch", "nosuch"),
    "missing, of spaces, quotes, a newline, an escape code and other letters": (
        lambda tmp: tmp / "a 'b' \"c\"\nd\t\x1b[31m蟻", "蟻"
    ),
    "missing, not Unicode": (lambda tmp: tmp / "caf\udce9", "caf"),
}  # fmt: skip
A_FOLDER = {"a folder": (lambda tmp: tmp / "results", "results")}
BROKEN_PHOTOS = {
    kind: (lambda tmp, content=content: write(tmp / "bad.png", content), "bad.png")
    for kind, content in NO_PHOTOS.items()
}


def cut_photo(tmp):
    noise(60, 60).save(tmp / "bad.png")
    return cut(tmp / "bad.png")


PATHS = {
    "folder": ABSENT | TOO_LONG | IN_THE_WAY,
    "file": ABSENT | TOO_LONG | A_FOLDER | {"below a file": IN_THE_WAY["below a file"]},
    "photo": ABSENT | TOO_LONG | A_FOLDER | BROKEN_PHOTOS | {"cut short": (cut_photo, "bad.png")},
    "results": TOO_LONG | IN_THE_WAY,
    "target": TOO_LONG | IN_THE_WAY,
}

for _name, _flags in FLAGS.items():
    for _flag, _kind in _flags.items():
        for _value in (*VALUES.get(_kind, [""] * (_kind in PATHS)), *MORE_VALUES.get((_name, _flag), ())):
            if _kind == "name":
                note(_name, f"{_flag} {_value!r}", _value, named=_value)
            else:
                note(_name, f"{_flag} {_value!r}", _flag, _value)
        for _case, (_path, _named) in PATHS.get(_kind, {}).items():
            note_path(_name, _flag, _case, _path, _named)
        if _kind == "switch":
            note(_name, f"{_flag}=1", f"{_flag}=1", named=_flag)
        elif _kind != "name":
            note(_name, f"{_flag} without its value", _flag)
        if _flag[:-1] not in _flags and _kind != "name":
            note(_name, f"{_flag} abbreviated", _flag[:-1])
    note(_name, "an unknown flag", "--nosuch")
    note(_name, "a word too many", "--force" if _name == "data.download" else "--quick", "surplus", named="surplus")

note("data.download", "an empty name", "", named="empty")

# what is given to load


def times(number, value):
    """Nested dicts and lists with every tensor of floats multiplied."""
    if isinstance(value, dict):
        return {key: times(number, item) for key, item in value.items()}
    return value * number if isinstance(value, torch.Tensor) and value.is_floating_point() else value


SPOILT = {  # of what a good file holds and the mark of a Bomb, the bytes of a bad one
    "an empty file": lambda good, mark: b"",
    "a text": lambda good, mark: b"no tensors\n",
    "a file cut short": lambda good, mark: saved(good)[: len(saved(good)) // 2],
    **{f"{name}, which runs code": lambda good, mark, make=make: make(mark) for name, make in CODE.items()},
    "a good file with an object that runs code": lambda good, mark: saved({**good, "more": Bomb(mark)}),
    "a list": lambda good, mark: saved([torch.ones(3)]),
    "an empty table": lambda good, mark: saved({}),
    "NaN": lambda good, mark: saved(times(float("nan"), good)),
    "infinity": lambda good, mark: saved(times(float("inf"), good)),
}
WEIGHTS = {"transfer_learning": ARCH, "style_transfer": STYLE_ARCH, "image_captioning": ARCH}


def good_weights(world, arch):
    folder = world.get("weights_folder" if arch == ARCH else "tiny_styles")
    return torch.load(folder / "weights" / f"{arch}.pth", weights_only=True)


def with_weights(world, content):
    """A run whose weights file holds `content`, or is a folder where that is None; and the file."""
    arch = WEIGHTS[world.name]
    path = world.tmp / "data" / "weights" / f"{arch}.pth"
    path.mkdir(parents=True) if content is None else write(path, content)
    if world.name == "image_captioning":
        shutil.copytree(world.get("tiny_set") / "flickr8k", world.tmp / "data" / "flickr8k")
    more = () if world.name == "style_transfer" else ("--arch", arch)
    return world.good("--data", "--data", world.tmp / "data", *more), path


for _name, _arch in WEIGHTS.items():
    for _case, _spoil in SPOILT.items():
        CASES[_name][f"weights: {_case}"] = lambda world, spoil=_spoil, arch=_arch: with_weights(
            world, spoil(good_weights(world, arch), world.mark)
        )
    CASES[_name]["weights: a folder"] = lambda world: with_weights(world, None)
    CASES[_name]["weights: of another architecture"] = lambda world, arch=_arch: with_weights(
        world, saved(good_weights(world, STYLE_ARCH if arch == ARCH else ARCH))
    )


def with_model(world, content):
    """A prediction by a model file that holds `content`; and the file."""
    path = write(world.tmp / "model.pt", content)
    return world.good("--model", "--model", path), path


def good_model(world, name=None):
    return torch.load(world.model(name), weights_only=True)


for _name, (_asks, _) in World.predicted.items():
    for _case, _spoil in SPOILT.items():
        CASES[_name][f"--model: {_case}"] = lambda world, spoil=_spoil: with_model(
            world, spoil(good_model(world), world.mark)
        )
    _other = "sentiment" if _name != "sentiment" else "image_captioning"
    CASES[_name] |= {
        "--model: of another script": lambda world, other=_other: with_model(world, saved(good_model(world, other))),
        "--model: says that it is of another script": lambda world: with_model(
            world, saved({**good_model(world), "script": "nosuch"})
        ),
        "--model: weights alone": lambda world: with_model(world, saved(good_weights(world, ARCH))),
        "--model: without its parts": lambda world: with_model(world, saved({"script": world.name})),
        "--model: a photo": lambda world: (lambda path: (world.good("--model", "--model", path), path))(
            next(world.get("tiny_photos").rglob("*.png"))
        ),
        f"--model without {_asks}": lambda world: (
            [*world.get("tiny_flags")(world.name), *words({"--results": world.results, "--model": world.model()})],
            "--model",
        ),
        f"{_asks} without a trained model": lambda world, asks=_asks: (
            words({asks: world.asked(), "--results": world.results}), world.results
        ),
    }  # fmt: skip


# ---- the tests


def main_of(name):
    """The command; the download's has no address to go to."""
    nowhere = {name: () for name in download.TABLE}
    return SCRIPTS[name].main if name in SCRIPTS else lambda argv: download.main(argv, nowhere)


@pytest.mark.parametrize("name, case", [(name, case) for name, cases in CASES.items() for case in cases])
def test_bad_input_is_one_line_on_stderr_and_status_2_and_changes_no_result(request, tmp_path, command, name, case):
    argv, named = CASES[name][case](World(name, request.getfixturevalue, tmp_path))
    look = without_cache if name == "image_captioning" else snapshot
    check_refused(command, main_of(name), argv, named, tmp_path, look)


class Seen(Exception):
    pass


@pytest.mark.parametrize("name", FLAGS)
def test_the_table_has_every_flag_of_the_parser_and_no_other(monkeypatch, name):
    def parse(parser, *_):
        raise Seen(parser)

    monkeypatch.setattr(Parser, "parse_args", parse)
    with pytest.raises(Seen) as seen:
        main_of(name)([])
    actions = [action for action in seen.value.args[0]._actions if action.dest != "help"]
    found = {flag: action for action in actions for flag in action.option_strings or [action.dest]}
    assert found.keys() == FLAGS[name].keys()
    assert {flag for flag, action in found.items() if action.nargs == 0} == {
        flag for flag, kind in FLAGS[name].items() if kind == "switch"
    }
    assert {flag for flag, action in found.items() if action.choices} == {
        flag for flag, kind in FLAGS[name].items() if kind in ("choice", "device")
    }


@pytest.mark.parametrize("name", FLAGS)
def test_the_command_line_itself_gives_the_one_line_and_status_2(tmp_path, name):
    given = ["-m", name, "nosuch"] if name == "data.download" else [f"{name}.py", "--data", tmp_path / "nosuch"]
    done = run_python(*given, *([] if name == "data.download" else ["--results", tmp_path / "results"]))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ") and "nosuch" in done.stderr and not list(Path(tmp_path).iterdir())
