"""What the tests share: the real data where it is, tiny photos and weights, and a run of a script in process."""

import os
import shutil
import signal
import subprocess
import sys
import types
import warnings
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data import weights
from data.builtin import creatures
from data.results import run_main

pytest_plugins = ["tests.runs"]  # tiny runs of every script

torch.set_num_threads(1)  # one thread a run: no fight for the cores, and no dependence on their number

REPO = Path(__file__).resolve().parent.parent
ARCH = "shufflenet_v2_x0_5"

not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
Outcome = namedtuple("Outcome", "status out err")


class Bomb:
    """Pickled, it makes the folder `mark` when it is loaded by a careless reader."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def snapshot(folder):
    """Everything below `folder`: relative name to content, None for a folder."""
    paths = sorted(Path(folder).rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def contents(folder):
    """Every file below `folder`: relative name to content."""
    return {name: content for name, content in snapshot(folder).items() if content is not None}


def random_state(arch, outputs=10, seed=0):
    """The state dict of `arch` with random weights and the batch-norm statistics of random blotches."""
    torch.manual_seed(seed)
    network = weights.build(arch, outputs).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over batches
    with torch.no_grad():
        network(nn.functional.interpolate(torch.randn(8, 3, 6, 6), size=96, mode="bilinear"))
    return network.state_dict()


def python_environment():
    """The environment of a subprocess that computes what this process does, with Python's usual settings."""
    usual = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**usual, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run_python(*words):
    """Python in a process of its own, in the repository, as the command line runs it; its output as text."""
    argv = [sys.executable, *map(str, words)]
    return subprocess.run(argv, cwd=REPO, env=python_environment(), capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def hw2_data():
    """The folder with the real data sets."""
    folder = os.environ.get("HW2_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HW2_DATA names no folder with the real data")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def no_downloaded_weights(tmp_path_factory):
    """Torch's own cache is empty, whatever the machine has in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        yield


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Ctrl-C works in every test and its child processes: `run_main` leaves it ignored, a background job has it so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(capsys):
    """Runs a script's `main` in process as the command line would. Returns exit status, stdout, stderr."""

    def run(main, *argv):
        capsys.readouterr()
        with warnings.catch_warnings(record=True) as seen:  # a warning is a line on stderr too
            for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", category)
            try:
                run_main(lambda: main([str(word) for word in argv]))
                status = 0
            except SystemExit as exit:
                status = exit.code
        out, err = capsys.readouterr()
        return Outcome(status, out, err + "".join(f"{warning.message}\n" for warning in seen))

    return run


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory):
    """A photo folder: ants and bees, 6 training and 4 validation drawings each, 64 pixels. Not to be changed."""
    folder = tmp_path_factory.mktemp("drawn") / "garden"
    for s, (split, count) in enumerate((("train", 6), ("val", 4))):
        for c, kind in enumerate(creatures.TARGETS):
            (folder / split / kind).mkdir(parents=True)
            for k in range(count):
                photo = creatures.draw_photo(kind, np.random.default_rng([7, s, c, k]), 64)
                photo.save(folder / split / kind / f"{kind}{k}.png")
    return folder


@pytest.fixture
def photos(tiny_photos, tmp_path):
    """A copy of `tiny_photos` to spoil."""
    return Path(shutil.copytree(tiny_photos, tmp_path / "garden"))


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    """A `--data` folder that holds nothing but the weights of a ShuffleNet that has seen noise. Not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "weights").mkdir()
    torch.save(random_state(ARCH), folder / "weights" / f"{ARCH}.pth")
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def recipe():
    """The flags that a scenario of transfer_learning.py reads."""
    return types.SimpleNamespace(epochs=2, lr=0.02, backbone_lr=0.0005, seed=0)
