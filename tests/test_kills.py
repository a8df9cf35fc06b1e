"""Every script, stopped in any way: a kill or Ctrl-C loses nothing, --resume takes what is its own, a disk may fail."""

import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from data import DataError
from data.files import TEMPORARY, alone
from tests import deadly
from tests.conftest import ARCH, REPO, not_as_root, python_environment, random_state, snapshot
from tests.runs import (
    SCRIPTS,
    at_change,
    check_equal_runs,
    check_refused,
    cut,
    hear_ctrl_c,
    largest_file,
    noise,
    read,
    refused,
    stopped_at,
    without_cache,
    world_folder,
)  # fmt: skip

every_script = pytest.mark.parametrize("name", SCRIPTS)


@pytest.fixture
def trained(command, tiny_flags):
    """Runs the tiny training of a script, by its name, into a results folder. Returns exit status, stdout, stderr."""

    def run(name, results_folder, *more):
        return command(SCRIPTS[name].main, *tiny_flags(name), "--results", results_folder, *more)

    return run


def last_line(err):
    """The last line of stderr; what is before are progress bars."""
    assert "Traceback" not in err
    return re.split(r"[\r\n]", err.strip())[-1].strip()


def usually(chosen):
    """One script that every call of pytest tries; `make test-all` tries the others too."""
    marked = [pytest.param(name, marks=[] if name == chosen else pytest.mark.slow) for name in SCRIPTS]
    return pytest.mark.parametrize("name", marked)


# ---- killed, and resumed

MOMENTS = 12
USUAL = 5  # the one that every call of pytest tries: between a temporary file and its name


def change_at(changes, moment):
    """The number of one of a run's changes: the moments are spread over the run and try every kind in turn."""
    kind = deadly.KINDS[moment % len(deadly.KINDS)]
    such = [number for number, change in enumerate(changes) if change[0] == kind]
    return such[round(moment / (MOMENTS - 1) * (len(such) - 1))]


@every_script
@pytest.mark.parametrize(
    "moment", [pytest.param(k, marks=[] if k == USUAL else pytest.mark.slow) for k in range(MOMENTS)]
)
def test_a_run_killed_at_any_change_of_a_file_ends_as_an_undisturbed_one(
    tiny_flags, trained, finished_runs, tmp_path, name, moment
):
    whole = finished_runs(name)
    change = change_at(whole.changes, moment)
    assert stopped_at(name, tiny_flags(name), tmp_path, change, signal.SIGKILL).returncode == -signal.SIGKILL
    assert bool([*tmp_path.rglob(f"{TEMPORARY}*")]) == (whole.changes[change][0] in ("write_bytes", "replace"))
    done_before = ("move", "results.json") in whole.changes[:change]
    assert (tmp_path / name / "results.json").exists() == done_before
    done = trained(name, tmp_path, "--resume")
    assert done.status == 0, done.err
    check_equal_runs(tmp_path, whole.results, name)


@every_script
def test_the_moments_of_the_kills_are_all_different_and_reach_to_the_first_and_the_last_change(finished_runs, name):
    changes = finished_runs(name).changes
    chosen = [change_at(changes, moment) for moment in range(MOMENTS)]
    assert len(set(chosen)) == MOMENTS and {0, len(changes) - 1} <= set(chosen)


@pytest.mark.slow
@every_script
def test_no_change_of_a_file_comes_behind_the_last_of_these_moments(tiny_flags, finished_runs, tmp_path, name):
    done = stopped_at(name, tiny_flags(name), tmp_path, len(finished_runs(name).changes), signal.SIGKILL)
    assert done.returncode == 0, done.stderr


# ---- Ctrl-C


@usually("sentiment")
def test_ctrl_c_ends_a_process_in_one_line_with_status_130_and_the_run_can_be_resumed(
    tiny_flags, trained, finished_runs, tmp_path, name
):
    whole = finished_runs(name)
    done = stopped_at(name, tiny_flags(name), tmp_path, change_at(whole.changes, USUAL), signal.SIGINT)
    assert done.returncode == 130 and last_line(done.stderr).startswith("stopped; the same command with --resume")
    assert trained(name, tmp_path, "--resume").status == 0
    check_equal_runs(tmp_path, whole.results, name)


def ctrl_c(path):
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def stopped_runs(tiny_flags, finished_runs, tmp_path_factory):
    """The results folder of a script's run that Ctrl-C ended in the middle, by its name. Not to be changed."""
    made = {}

    def stopped(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("stopped")
            with at_change(change_at(finished_runs(name).changes, USUAL), ctrl_c), pytest.raises(KeyboardInterrupt):
                SCRIPTS[name].main([*tiny_flags(name), "--results", str(made[name])])
        return made[name]

    return stopped


@pytest.fixture
def stopped_copy(stopped_runs, tmp_path):
    """A copy of a stopped run's results folder to write to."""
    return lambda name: shutil.copytree(stopped_runs(name), tmp_path / "stopped")


@every_script
def test_ctrl_c_leaves_no_unfinished_file_and_no_results_but_a_checkpoint(stopped_runs, name):
    files = snapshot(stopped_runs(name) / name)
    assert "results.json" not in files and not [file for file in files if TEMPORARY in file]
    assert [file for file in files if file.startswith("checkpoint-")]


@every_script
def test_a_run_stopped_by_ctrl_c_goes_on_to_an_undisturbed_ones_results(stopped_copy, trained, finished_runs, name):
    folder = stopped_copy(name)
    assert trained(name, folder, "--resume").status == 0
    check_equal_runs(folder, finished_runs(name).results, name)


@pytest.mark.parametrize("module", sorted({script.module for script in SCRIPTS.values()}))
def test_ctrl_c_while_pytorch_is_imported_is_one_line_with_status_130(tmp_path, module):
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = python_environment() | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, f"{module}.py"],
        cwd=REPO, env=environment, capture_output=True, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (130, "", 1)


# ---- what --resume refuses and what it takes

OTHER_SETTINGS = {
    "transfer_learning": {
        "seed": ("--seed", 1), "epochs": ("--epochs", 3), "lr": ("--lr", 0.1), "batch_size": ("--batch-size", 5),
        "backbone_lr": ("--backbone-lr", 0.1), "scenarios": ("--scenarios", "freeze"),
    },
    "style_transfer": {
        "seed": ("--seed", 1), "steps": ("--steps", 3), "stylized.image_size": ("--size", 41),
        "keep_colors": ("--keep-colors",), "init": ("--init", "noise"), "stylized.tv_weight": ("--tv-weight", 1),
        "stylized.style_weights": ("--style-weights", 1, 2, 3, 4),
    },
    "image_captioning": {
        "seed": ("--seed", 1), "rnn_epochs": ("--epochs", 4), "rnn_lr": ("--lr", 0.1), "rnn_hidden": ("--hidden", 8),
        "rnn_batch_size": ("--batch-size", 5), "backend": ("--backend", "torch"), "beam_width": ("--beam-width", 3),
        "captions": ("--small", 5), "rnn_dropout": ("--dropout", 0.2), "fingerprint": ("--min-count", 7),
    },
    "image_captioning-full": {"seed": ("--seed", 1), "rnn_epochs": ("--epochs", 4), "fingerprint": ("--min-count", 7)},
    "sentiment": {"seed": ("--seeds", 0), "epochs": ("--epochs", 3), "trained": ("--models", "bag")},
}  # fmt: skip
SETTINGS = [(name, setting) for name, settings in OTHER_SETTINGS.items() for setting in settings]


@pytest.mark.parametrize("name, setting", SETTINGS)
def test_resume_of_a_finished_run_with_another_setting_is_refused_in_one_line_that_names_it(
    finished_copy, tiny_flags, command, name, setting
):
    folder = finished_copy(name)
    argv = [*tiny_flags(name), *OTHER_SETTINGS[name][setting], "--results", folder, "--resume"]
    check_refused(command, SCRIPTS[name].main, argv, f" {setting} = ", folder, without_cache)


@every_script
def test_resume_of_a_stopped_run_with_another_seed_is_refused_in_one_line_that_names_it(
    stopped_copy, tiny_flags, command, name
):
    folder = stopped_copy(name)
    argv = [*tiny_flags(name), *OTHER_SETTINGS[name]["seed"], "--results", folder, "--resume"]
    check_refused(command, SCRIPTS[name].main, argv, " seed = ", folder, without_cache)


def other_photos(get, folder):
    shutil.copytree(get("tiny_photos"), folder)
    (folder / "train" / "ants" / "ants0.png").unlink()
    return "--photos", folder


def other_weights(get, folder):
    (folder / "weights").mkdir(parents=True)
    torch.save(random_state(ARCH, seed=1), folder / "weights" / f"{ARCH}.pth")
    return "--data", folder


def other_picture(get, folder):
    folder.mkdir()
    noise(90, 60, 5).save(folder / "cat.jpg")
    return "--content", folder / "cat.jpg"


def other_caption(get, folder):
    path = shutil.copytree(get("tiny_set"), folder) / "flickr8k" / "Flickr8k.token.txt"
    path.write_text(path.read_text().replace(" .\n", " again .\n", 1))
    return "--data", folder


def another_training_photo(get, folder):
    shutil.copytree(get("tiny_set"), folder)
    noise(48, 36, 3).save(folder / "flickr8k" / "images" / "train7.jpg")
    return "--data", folder


def other_sentences(get, folder):
    path = shutil.copytree(get("tiny_reviews"), folder) / "dev.txt"
    path.write_text(path.read_text().replace("\n", " 1\n"))
    return "--data", folder


def other_vectors(get, folder):
    path = shutil.copytree(get("tiny_reviews"), folder) / "glove" / "glove.6B.50d.test.txt"
    path.write_text(path.read_text().replace("\n", "0\n"))
    return "--data", folder


OTHER_DATA = [
    ("transfer_learning", other_photos, "photos_fingerprint"),
    ("transfer_learning", other_weights, "weights"),
    ("style_transfer", other_picture, "stylized.fingerprint"),
    ("image_captioning", other_caption, "fingerprint"),
    ("image_captioning-full", other_caption, "fingerprint"),
    ("image_captioning-full", another_training_photo, "fingerprint"),
    ("sentiment", other_sentences, "sentences_fingerprint"),
    ("sentiment", other_vectors, "weights"),
]


@pytest.mark.parametrize("state", ["finished", "stopped"])
@pytest.mark.parametrize("name, change, setting", OTHER_DATA, ids=lambda value: getattr(value, "__name__", value))
def test_resume_with_other_data_is_refused_in_one_line_that_names_what_differs(
    request, tiny_flags, finished_copy, stopped_copy, tmp_path, command, name, change, setting, state
):
    folder = {"finished": finished_copy, "stopped": stopped_copy}[state](name)
    argv = [*tiny_flags(name), *change(request.getfixturevalue, tmp_path / "other"), "--results", folder, "--resume"]
    check_refused(command, SCRIPTS[name].main, argv, f" {setting} = ", folder, without_cache)


@every_script
def test_resume_of_another_scripts_checkpoint_is_refused_in_one_line(stopped_runs, stopped_copy, trained, name):
    folder = stopped_copy(name)
    other = "style_transfer" if name != "style_transfer" else "sentiment"
    shutil.copy(next((stopped_runs(other) / other).glob("checkpoint-*.pt")), folder / name / "checkpoint-start.pt")
    before = snapshot(folder)
    assert refused(trained(name, folder, "--resume"), "checkpoint-start.pt: belongs to a run with ")
    assert snapshot(folder) == before


@every_script
def test_resume_of_a_checkpoint_cut_short_is_refused_in_one_line_that_names_it(stopped_copy, trained, name):
    folder = stopped_copy(name)
    path = cut(sorted((folder / name).glob("checkpoint-*.pt"))[0])
    before = snapshot(folder)
    assert refused(trained(name, folder, "--resume"), f"{path}: cut short")
    assert snapshot(folder) == before


@every_script
def test_resume_of_a_results_json_that_is_none_is_refused_in_one_line_that_names_it(trained, tmp_path, name):
    folder = world_folder(tmp_path, name)
    before = without_cache(folder)
    assert refused(trained(name, folder, "--resume"), folder / name / "results.json")
    assert without_cache(folder) == before


@every_script
def test_resume_with_nothing_there_says_so_and_starts_anew(finished_runs, trained, tmp_path, name):
    def far_enough(path):
        raise DataError("far enough")

    first = finished_runs(name).changes.index(("replace", "checkpoint-start.pt"))
    with at_change(first + 2, far_enough):  # the second file of the run
        done = trained(name, tmp_path, "--resume")
    assert f"--resume: no checkpoint in {tmp_path / name}; starting anew" in done.out
    assert done.status == 2 and last_line(done.err) == "error: far enough"


@every_script
def test_resume_of_a_finished_run_prints_its_table_and_changes_nothing(finished_runs, trained, name):
    folder = finished_runs(name).results
    before = snapshot(folder)
    done = trained(name, folder, "--resume")
    assert done.status == 0 and done.err == "" and snapshot(folder) == before
    saved = read(folder, name)
    for row in saved["table"]["rows"]:
        assert re.search(r" +".join(map(re.escape, filter(None, row))), done.out)
    assert all(f"{folder / name / plot['file']} " in done.out for plot in saved["plots"])


# ---- two at once


@every_script
def test_a_second_run_into_the_same_folder_at_once_is_refused_and_changes_nothing(finished_runs, trained, name):
    folder = finished_runs(name).results
    before = snapshot(folder)
    with alone(folder / name, "-"):
        assert refused(trained(name, folder), f"{folder / name}: another run is busy here")
    assert snapshot(folder) == before


# ---- the disk


@every_script
def test_no_room_for_the_first_file_is_one_line_and_earlier_results_stay(finished_copy, trained, name):
    folder = finished_copy(name)
    before = snapshot(folder)
    with largest_file(1000):
        done = trained(name, folder)
    assert done.status == 2 and last_line(done.err) == f"error: {folder / name / 'checkpoint-start.pt'}: File too large"
    assert snapshot(folder) == before


@every_script
def test_no_room_for_the_largest_file_is_one_line_and_leaves_earlier_results_and_no_unfinished_file(
    finished_copy, trained, name
):
    folder = finished_copy(name)
    before = snapshot(folder)
    size = max(len(content or b"") for content in snapshot(folder / name).values())
    with largest_file(size - 1):
        done = trained(name, folder)
    assert done.status == 2 and last_line(done.err).endswith(": File too large")
    after = snapshot(folder)
    checkpoints = [file for file in after if "/checkpoint-" in file or "/unfinished" in file]  # to go on from
    assert {file: content for file, content in after.items() if file not in checkpoints} == before and checkpoints


@not_as_root
@every_script
def test_no_permission_for_the_results_is_one_line_and_status_2(trained, tmp_path, name):
    (tmp_path / "results").mkdir(mode=0o500)
    done = trained(name, tmp_path / "results")
    assert done.status == 2 and str(tmp_path / "results") in last_line(done.err)


@usually("style_transfer")
def test_a_results_folder_removed_behind_a_runs_first_result_ends_it_in_one_line_and_it_can_be_resumed(
    finished_runs, trained, tmp_path, name
):
    whole = finished_runs(name)
    first = next(k for k, (kind, file) in enumerate(whole.changes) if kind == "replace" and "checkpoint" not in file
                 and not file.endswith((".npy", ".txt")))  # fmt: skip
    with at_change(first + 1, lambda path: shutil.rmtree(tmp_path / name)):
        done = trained(name, tmp_path)
    lost = tmp_path / name / "unfinished" / whole.changes[first][1]
    assert done.status == 2 and last_line(done.err).startswith(f"error: {lost}: was removed ")
    assert trained(name, tmp_path, "--resume").status == 0
    check_equal_runs(tmp_path, whole.results, name)
