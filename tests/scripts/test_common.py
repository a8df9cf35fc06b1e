"""common/: the epoch loop, cleanup after a kill, confidence intervals, error messages and plot titles."""

import argparse
import itertools
import random

import numpy as np
import pytest
import torch

from common import cli, plots, run
from tests.conftest import refused, run_python


def walk(stop=None, seed=0, **options):
    """The history of a random walk of seven epochs, stopped before the checkpoint of epoch `stop`."""
    walker, history, best = torch.nn.ParameterDict({"at": torch.zeros(1)}), run.History(), run.Best()
    for _ in itertools.islice(run.epochs(7, seed, walker=walker, history=history, best=best, **options), stop):
        walker["at"].data += random.gauss(0, 1) + np.random.randn() + torch.randn(1)
        history.add(at=walker["at"].item())
        best.offer(history["at"][-1], walker)
    assert best.score == best.state["at"].item() == max(history["at"])
    return history


@pytest.mark.parametrize("every, done", [(1, 4), (3, 3)])
def test_resumed_training_equals_uninterrupted_training(tmp_path, every, done):
    walk(stop=5, checkpoint=tmp_path / "walk.pt", every=every)
    assert run.load_tensors(tmp_path / "walk.pt")["epochs done"] == done
    assert walk(checkpoint=tmp_path / "walk.pt", every=every) == walk() != walk(seed=1)


def test_the_next_run_removes_the_leftovers_of_a_killed_run(tmp_path):
    args = argparse.Namespace(results=tmp_path, quick=False, seed=0, restart=False)
    with run.Run("tiny", args, "data", "weights", {}) as killed:
        killed.checkpoint("a").with_name(".checkpoint-a.pt.1.tmp").write_text("cut")
    with run.Run("tiny", args, "data", "weights", {}) as again:
        again.finish({}, ["a"], [["1"]])
    assert [path.name for path in again.folder.iterdir()] == ["results.json"]


@pytest.mark.parametrize("share, low, high", [(0.9, 0.5958, 0.9821), (0, 0, 0.2775), (1, 0.7225, 1)])
def test_wilson_interval_matches_known_values(share, low, high):
    assert run.wilson_interval(share, 10) == pytest.approx((low, high), abs=1e-4)


def test_shown_gives_one_printable_line():
    assert cli.shown("a\n\x1b\udc80é" + "x" * 300, 20) == "a\\n\\x1b\\udc80éxxxxxx ..."


def test_a_broken_matplotlibrc_of_the_user_is_ignored(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"font.size: large\nfont.family: \xff\n")
    code = "from common import plots; print(plots.new_figure(2, 2, '').dpi)"
    done = run_python("-c", code, MATPLOTLIBRC=str(tmp_path / "matplotlibrc"), MPLBACKEND="nonsense")
    assert (done.stdout, done.stderr) == ("150.0\n", "")


@pytest.mark.parametrize(
    "error, words",
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."), "--workers 0"),
        (OSError(24, "Too many open files"), "--workers 0"),
    ],
)
def test_machine_errors_are_one_line_with_advice(command, error, words):
    def main(argv):
        raise error

    assert refused(command(main), words)


@pytest.mark.parametrize("width", [4.8, 8])
def test_a_title_fits_the_width_and_contains_no_hash(width):
    figure = plots.new_figure(width, 3, f"Curves\n{'data, ' * 20}net.pth, SHA-256 0123abcd, {'x' * 150}")
    text = figure._suptitle.get_window_extent(dpi=150)
    assert 0 <= text.x0 and text.x1 <= 150 * width
    assert "SHA" not in figure.get_suptitle() and "net.pth, xxx" in figure.get_suptitle().replace("\n", " ")


def test_names_without_glyphs_in_the_font_are_numbered(capsys):
    assert plots.drawable(["ants", "Bäume"]) == ["ants", "Bäume"] and not capsys.readouterr().out
    assert plots.drawable(["蚂蚁", "bees"]) == ["class 1", "class 2"]
    assert "class 1 is 蚂蚁, class 2 is bees" in capsys.readouterr().out
