"""Shared fixtures: tiny inputs, and commands that run in the test process."""

import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common import plots
from common.cli import run_main
from data import weights
from data.drawn import creatures

torch.set_num_threads(1)  # results must not depend on the number of cores
plots.STYLE["figure.dpi"] = 30  # the tests draw hundreds of plots

REPO = Path(__file__).resolve().parent.parent
ARCH = "shufflenet_v2_x0_5"
Outcome = namedtuple("Outcome", "status out err")


def random_state(arch, outputs=10, seed=0):
    """A state dict of `arch` with random weights and the batch-norm statistics of random smooth images."""
    torch.manual_seed(seed)
    network = weights.build(arch, outputs).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # average over all batches
    with torch.no_grad():
        network(nn.functional.interpolate(torch.randn(8, 3, 6, 6), size=96, mode="bilinear"))
    return network.state_dict()


def run_python(*words, **environment):
    """Runs Python in the repository in a new process, with one thread like this one. Captures its output as text."""
    usual = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    usual |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, *map(str, words)]
    return subprocess.run(argv, cwd=REPO, env=usual | environment, capture_output=True, text=True, timeout=300)


def refused(done, *named):
    """Asserts exit status 2 and one printable line on stderr that contains all of `named`."""
    assert done.status == 2, done.out + done.err
    line = done.err.split("\r")[-1]  # after a progress bar
    assert line.startswith("error: ") and line.endswith("\n") and line[:-1].isprintable(), done.err
    assert all(str(name) in line for name in named), line
    return True


@pytest.fixture(scope="session")
def hw2_data():
    """The folder with the real data sets."""
    folder = os.environ.get("HW2_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HW2_DATA is not set to a folder with the real data")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def no_downloaded_weights(tmp_path_factory):
    """Gives PyTorch an empty weight cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
        yield


@pytest.fixture
def command(capsys):
    """Runs a script's `main` in the test process, as the command line does."""

    def run(main, *argv):
        capsys.readouterr()
        try:
            run_main(lambda: main([str(word) for word in argv]))
            status = 0
        except SystemExit as exit:
            status = exit.code
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def tiny_photos(tmp_path_factory):
    """A photo folder: ants and bees, 6 training and 4 validation drawings each, 64 pixels. Read-only."""
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
    """A writable copy of `tiny_photos`."""
    return Path(shutil.copytree(tiny_photos, tmp_path / "garden"))


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    """A `--data` folder that holds only the weights of a ShuffleNet and a SqueezeNet. Read-only."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "weights").mkdir()
    for arch in (ARCH, "squeezenet1_1"):
        torch.save(random_state(arch), folder / "weights" / f"{arch}.pth")
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)
