"""Runs of every script: the files they write, equal seeds, resuming, failures."""

import json
import os
import signal
import sys

import pytest
import torch

from common import run as runs
from tests.conftest import refused
from tests.scripts.tiny import SCRIPTS

every_script = pytest.mark.parametrize("name", SCRIPTS)
KEYS = {"script", "data", "weights", "seed", "settings", "metrics", "table", "seconds", "versions", "plots", "models",
        "texts"}  # fmt: skip


def kill_at_write(count, main, argv):
    """Runs main(argv) in a child process, which is killed just before it writes file number `count`."""
    if child := os.fork():
        return os.waitpid(child, 0)[1]
    replace, left = os.replace, iter(range(count))

    def replace_or_die(*paths):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = replace_or_die
    main(argv)
    os._exit(0)


def numbers(folder, name):
    """What must be equal in two equal runs: results.json without times, and the content of models and texts."""
    results = json.loads((folder / name / "results.json").read_text())

    def clean(value):
        if isinstance(value, dict):
            if "seconds" in value.get("columns", ()):
                at = value["columns"].index("seconds")
                value = {"rows": [row[:at] + row[at + 1 :] for row in value["rows"]]}
            return {key: clean(part) for key, part in value.items() if key != "seconds"}
        return [clean(part) for part in value] if isinstance(value, list) else value

    models = {file: torch.load(folder / name / file, weights_only=True) for file in results["models"]}
    return clean(results), {file: repr(model) for file, model in models.items()}, contents(folder / name, ".txt")


def contents(folder, ending):
    return {path.name: path.read_bytes() for path in folder.glob(f"*{ending}")}


@every_script
def test_a_run_writes_exactly_the_files_in_results_json(finished, name):
    folder = finished(name) / name
    results = json.loads((folder / "results.json").read_text())
    assert results.keys() == KEYS
    named = {made["file"] for made in results["plots"]} | {*results["models"], *results["texts"], "results.json"}
    assert {path.name for path in folder.iterdir()} == named
    assert {path.name for path in folder.parent.iterdir()} <= {name, "cache", f".{name}.lock"}
    assert len(results["table"]["rows"][0]) == len(results["table"]["columns"])


@every_script
def test_the_same_seed_gives_the_same_numbers(finished, world, tmp_path, command, name):
    assert command(SCRIPTS[name].main, *SCRIPTS[name].flags(world), "--results", tmp_path).status == 0
    assert numbers(tmp_path, name) == numbers(finished(name), name)
    assert contents(tmp_path / name, ".png") == contents(finished(name) / name, ".png")


@pytest.mark.skipif(sys.platform != "linux", reason="a process that uses PyTorch can fork only on Linux")
@every_script
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_killed_run_resumes_to_the_same_results(finished, world, tmp_path, command, name, share):
    flags = [*map(str, SCRIPTS[name].flags(world)), "--results", str(tmp_path)]
    whole = finished(name)
    writes = 2 * len([*(whole / name).iterdir()])
    assert kill_at_write(round(share * writes), SCRIPTS[name].main, flags) in (signal.SIGKILL, 0)
    assert command(SCRIPTS[name].main, *flags).status == 0
    assert numbers(tmp_path, name) == numbers(whole, name)
    assert not (tmp_path / f"{name}.partial").exists()


def test_many_classes_have_no_confusion_plot(world, tmp_path, command, monkeypatch):
    monkeypatch.setattr("transfer_learning.MOST_CLASSES", 1)
    flags = [*SCRIPTS["transfer_learning"].flags(world), "--scenarios", "freeze", "--results", tmp_path]
    assert command(SCRIPTS["transfer_learning"].main, *flags).status == 0
    assert not (tmp_path / "transfer_learning" / "confusion.png").exists()


# ---- resuming an unfinished run, tested with the fastest script


@pytest.fixture
def run(world, tmp_path, command):
    """Runs style_transfer.py with extra flags."""
    script = SCRIPTS["style_transfer"]
    return lambda *flags: command(script.main, *script.flags(world), "--results", tmp_path, *flags)


@pytest.fixture
def run_again(run, monkeypatch):
    """`run`, after a first run that Ctrl-C stopped at its first checkpoint."""
    save = runs.save_tensors

    def save_and_stop(path, content):
        save(path, content)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_tensors", save_and_stop)
        done = run()
    assert done.status == 130 and done.err.splitlines()[-1].endswith("from the last checkpoint, if there is one")
    return run


def test_an_unfinished_run_with_the_same_settings_is_resumed(run_again):
    assert "resuming the unfinished run" in run_again().out


def test_restart_ignores_the_unfinished_run(run_again):
    result = run_again("--restart")
    assert result.status == 0 and "resuming" not in result.out


def test_a_changed_setting_starts_over_and_is_named(run_again):
    assert "starting over: the unfinished run had stylized.tv_weight = 0.02, now 5.0" in run_again("--tv-weight", 5).out


def test_changed_code_starts_over(run_again, monkeypatch):
    monkeypatch.setattr(runs, "code_hash", lambda: "another")
    assert "starting over: the code has changed" in run_again().out


def test_a_broken_checkpoint_is_a_one_line_error(run_again, tmp_path):
    [checkpoint] = (tmp_path / "style_transfer.partial").glob("checkpoint-*")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert refused(run_again(), checkpoint, "--restart")
    assert run_again("--restart").status == 0


def test_a_failed_run_leaves_earlier_results_untouched(run, tmp_path, monkeypatch):
    folder = tmp_path / "style_transfer"
    folder.mkdir()
    (folder / "results.json").write_text("earlier")
    monkeypatch.setattr("style_transfer.take_step", lambda *_: {"content": torch.tensor(float("nan"))})
    done = run()
    assert done.status == 2 and "not finite" in done.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["style_transfer"]
    assert (folder / "results.json").read_text() == "earlier"


def test_two_runs_cannot_share_a_folder(run, tmp_path):
    args = type("Args", (), {"results": tmp_path, "quick": False, "seed": 0, "restart": False})
    with runs.Run("style_transfer", args, "data", "weights", {}):
        done = run()
    assert done.status == 2 and "is in use by another run" in done.err.splitlines()[-1]


def test_a_file_in_place_of_the_results_folder_is_kept(run, tmp_path):
    (tmp_path / "style_transfer").write_text("mine")
    done = run()
    assert done.status == 2 and "style_transfer: is a link or a file" in done.err.splitlines()[-1]
    assert (tmp_path / "style_transfer").read_text() == "mine"


def test_a_saved_network_makes_predictions(finished, world, command):
    flags = ["--predict", world / "own/cat.jpg", "--results", finished("transfer_learning")]
    done = command(SCRIPTS["transfer_learning"].main, *flags)
    assert done.status == 0 and "model" in done.out
