"""A run of every script: what it leaves, the same seed, stopped and resumed, a failed run."""

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
    """Runs main(argv) in a child process that is killed when it is about to write its file number `count`."""
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


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory):
    """Makes the finished tiny run of a script once: its results folder."""
    made = {}

    def run(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("finished")
            SCRIPTS[name].main([*map(str, SCRIPTS[name].flags(world)), "--results", str(made[name])])
        return made[name]

    return run


def numbers(folder, name):
    """What two equal runs have in common: results.json without times, the content of models and texts."""
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
def test_a_run_leaves_what_results_json_names(finished, name):
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process that uses PyTorch cannot fork")
@every_script
@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_killed_run_ends_as_an_undisturbed_one(finished, world, tmp_path, command, name, share):
    flags = [*map(str, SCRIPTS[name].flags(world)), "--results", str(tmp_path)]
    whole = finished(name)
    writes = 2 * len([*(whole / name).iterdir()])
    assert kill_at_write(round(share * writes), SCRIPTS[name].main, flags) in (signal.SIGKILL, 0)
    assert command(SCRIPTS[name].main, *flags).status == 0
    assert numbers(tmp_path, name) == numbers(whole, name)
    assert not (tmp_path / f"{name}.partial").exists()


# ---- how an unfinished run is resumed or not, shown with the quickest script


def stopped_style(world, tmp_path, command, monkeypatch):
    """Runs style_transfer.py until its first checkpoint, where Ctrl-C comes. Returns a function that runs it again."""
    save = runs.save_tensors

    def save_and_stop(path, content):
        save(path, content)
        raise KeyboardInterrupt

    def run(*flags):
        argv = [*SCRIPTS["style_transfer"].flags(world), "--results", tmp_path, *flags]
        return command(SCRIPTS["style_transfer"].main, *argv)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_tensors", save_and_stop)
        done = run()
    assert done.status == 130 and done.err.splitlines()[-1].endswith("from the last checkpoint, if there is one")
    return run


def test_an_unfinished_run_of_the_same_settings_is_resumed(world, tmp_path, command, monkeypatch):
    run = stopped_style(world, tmp_path, command, monkeypatch)
    assert "resuming the unfinished run" in run().out


def test_restart_begins_anew(world, tmp_path, command, monkeypatch):
    run = stopped_style(world, tmp_path, command, monkeypatch)
    assert "resuming" not in run("--restart").out


def test_another_setting_begins_anew_and_says_which(world, tmp_path, command, monkeypatch):
    run = stopped_style(world, tmp_path, command, monkeypatch)
    assert "starting anew: the unfinished run had stylized.tv_weight = 0.02, now 5.0" in run("--tv-weight", 5).out


def test_changed_code_begins_anew(world, tmp_path, command, monkeypatch):
    run = stopped_style(world, tmp_path, command, monkeypatch)
    monkeypatch.setattr(runs, "code_hash", lambda: "another")
    assert "starting anew: the code has changed" in run().out


def test_a_broken_checkpoint_is_one_line(world, tmp_path, command, monkeypatch):
    run = stopped_style(world, tmp_path, command, monkeypatch)
    [checkpoint] = (tmp_path / "style_transfer.partial").glob("checkpoint-*")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert refused(run(), checkpoint, "--restart")
    assert run("--restart").status == 0


def test_a_failed_run_leaves_earlier_results_untouched(finished, world, tmp_path, command, monkeypatch):
    folder = tmp_path / "style_transfer"
    folder.mkdir()
    (folder / "results.json").write_text("earlier")
    monkeypatch.setattr("style_transfer.take_step", lambda *_: {"content": torch.tensor(float("nan"))})
    done = command(SCRIPTS["style_transfer"].main, *SCRIPTS["style_transfer"].flags(world), "--results", tmp_path)
    assert done.status == 2 and "not finite" in done.err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["style_transfer"]
    assert (folder / "results.json").read_text() == "earlier"


def test_two_runs_do_not_share_a_folder(world, tmp_path, command):
    args = type("Args", (), {"results": tmp_path, "quick": False, "seed": 0, "restart": False})
    with runs.Run("style_transfer", args, "data", "weights", {}):
        done = command(SCRIPTS["style_transfer"].main, *SCRIPTS["style_transfer"].flags(world), "--results", tmp_path)
    assert done.status == 2 and "another run is busy" in done.err.splitlines()[-1]


def test_a_file_is_not_taken_for_a_folder_of_results(world, tmp_path, command):
    (tmp_path / "style_transfer").write_text("mine")
    done = command(SCRIPTS["style_transfer"].main, *SCRIPTS["style_transfer"].flags(world), "--results", tmp_path)
    assert done.status == 2 and "style_transfer: is a link or a file" in done.err.splitlines()[-1]
    assert (tmp_path / "style_transfer").read_text() == "mine"


@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if script.predict])
def test_a_saved_model_predicts(finished, world, command, name):
    flag, value = SCRIPTS[name].predict
    more = ["--data", world] if flag == "--caption" else []
    done = command(
        SCRIPTS[name].main, flag, str(value).replace("own", f"{world}/own"), *more, "--results", finished(name)
    )
    assert done.status == 0 and "model" in done.out
