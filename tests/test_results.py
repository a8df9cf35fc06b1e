"""data/results.py: what every script shares: flags, seeds, checkpoints, the run's folder, the one-line error."""

import argparse
import json
import random
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError, files, plot, results
from data.tensors import load_tensors
from tests.conftest import REPO, python_environment, run_python, snapshot
from tests.runs import RESULTS_KEYS, check_one_error


def make_args(folder, **flags):
    return types.SimpleNamespace(**{"results": folder, "resume": False, "quick": False, "seed": 0, **flags})


def make_run(folder, settings=None, **flags):
    settings = {"epochs": 3} if settings is None else settings
    return results.Run("script", make_args(folder, **flags), "some data", "some weights", settings)


def finish(run):
    """What a script does at the end of its run."""
    figure = plot.new_figure(3, 2)
    figure.subplots().plot([1, 2, 3])
    run.figure(figure, "plot.png", "A plot", "What to see in it.")
    run.finish({"accuracy": 0.5}, ["what", "accuracy"], [["model", "50.0%"]])


# ---- flags


def parse(*argv):
    parser = results.Parser(prog="script.py")
    results.add_common_flags(parser, "one epoch")
    results.add_seed_flag(parser)
    return parser.parse_args([str(word) for word in argv])


@pytest.mark.parametrize("argv", [["--seed", "-1"], ["--seed", 2**31], ["--seed", "x"], ["--seed", "1.5"], ["--seed"],
                                  ["--device", "tpu"], ["--res", "x"], ["--nosuch"], ["word"]], ids=str)  # fmt: skip
def test_a_wrong_flag_is_a_dataerror_that_names_the_flag_and_the_help(argv):
    check_one_error(lambda: parse(*argv), argv[0], "script.py --help")


def ask(*argv):
    parser = results.Parser(prog="script.py")
    for flag in ("--ask", "--model", "--epochs"):
        parser.add_argument(flag)
    parser.parse_args(argv)
    parser.keep_to("--ask", "--model")


@pytest.mark.parametrize("argv", [["--epochs", "3", "--ask", "x"], ["--ask=x", "--epochs=3"]])
def test_a_flag_that_would_do_nothing_beside_another_is_an_error_that_names_both(argv):
    with pytest.raises(DataError, match="--epochs: does nothing beside --ask"):
        ask(*argv)


@pytest.mark.parametrize("argv", [["--ask", "x", "--model", "y"], ["--epochs", "3", "--model", "y"], []])
def test_flags_that_go_together_are_no_error(argv):
    ask(*argv)


def test_the_help_explains_every_shared_flag(capsys):
    with pytest.raises(SystemExit) as done:
        parse("--help")
    text = capsys.readouterr().out
    assert done.value.code == 0
    flags = ("--data", "--results", "--device", "--seed", "--resume", "--quick")
    assert all(re.search(rf"^ +{flag}\b.*(\n +)?\w+", text, re.MULTILINE) for flag in flags)


@pytest.mark.parametrize("kind, text", [(int, "3"), (int, "4"), (float, "3"), (float, "3.5"), (float, "1e3")])
def test_at_least_takes_the_bound_and_what_is_above(kind, text):
    assert results.at_least(3, kind)(text) == kind(text)


@pytest.mark.parametrize("text", ["2.9", "-5", "nan", "inf", "-inf"])
def test_at_least_refuses_what_is_below_nan_and_infinity(text):
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        results.at_least(3, float)(text)


def test_at_least_refuses_the_upper_bound_itself():
    with pytest.raises(argparse.ArgumentTypeError, match="below 5"):
        results.at_least(0, below=5)("5")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_without_cuda_is_a_dataerror_and_auto_takes_the_cpu():
    with pytest.raises(DataError, match="--device cuda: "):
        results.pick_device("cuda")
    assert results.pick_device("auto") == results.pick_device("cpu") == torch.device("cpu")


# ---- seeds


def draws():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_seed_all_gives_the_same_numbers_for_the_same_parts_in_all_three_generators():
    results.seed_all(1, "freeze")
    first = draws()
    results.seed_all(1, "freeze")
    assert draws() == first


@pytest.mark.parametrize("parts", [(2, "freeze"), (1, "finetune"), (1,), (1, "freeze", 0), ("1", "freeze")], ids=str)
def test_seed_all_gives_other_numbers_for_other_parts_in_all_three_generators(parts):
    results.seed_all(1, "freeze")
    first = draws()
    results.seed_all(*parts)
    assert all(a != b for a, b in zip(draws(), first, strict=True))


# ---- checkpoints


IDENTITY = {"script": "script", "seed": 0, "epochs": 3, "names": ["a", "b"]}


def test_a_checkpoint_gives_back_what_it_took(tmp_path):
    state = {"weights": {"w": torch.arange(3.0)}, "history": [1.5, 2], "none": None, 7: "text"}
    results.Checkpoint(tmp_path / "c.pt", IDENTITY).save(state)
    loaded = results.Checkpoint(tmp_path / "c.pt", dict(IDENTITY)).load()
    assert torch.equal(loaded.pop("weights")["w"], torch.arange(3.0))
    assert loaded == {"history": [1.5, 2], "none": None, 7: "text"}


def test_a_checkpoint_that_is_not_there_is_none(tmp_path):
    assert results.Checkpoint(tmp_path / "c.pt", IDENTITY).load() is None


@pytest.mark.parametrize(
    "key, value", [("script", "other"), ("seed", 1), ("epochs", 4), ("names", ["a"]), ("data", "ants")]
)
def test_a_checkpoint_of_other_settings_is_refused_with_the_name_of_the_setting_and_both_values(tmp_path, key, value):
    results.Checkpoint(tmp_path / "c.pt", IDENTITY).save({})
    other = results.Checkpoint(tmp_path / "c.pt", {**IDENTITY, key: value})
    check_one_error(other.load, tmp_path / "c.pt", f"{key} = {IDENTITY.get(key)}", value, "--resume")


@pytest.mark.parametrize("value", ["a\nb", torch.ones(3, 3), "\x1b[2J"], ids=["line", "tensor", "escape"])
def test_a_checkpoint_of_an_odd_setting_is_refused_in_one_printable_line(tmp_path, value):
    torch.save({"identity": {**IDENTITY, "epochs": value}, "state": {}}, tmp_path / "c.pt")
    check_one_error(results.Checkpoint(tmp_path / "c.pt", IDENTITY).load, "epochs = ")


@pytest.mark.parametrize("spoil", [lambda b: b[:-50], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"text"])
def test_a_checkpoint_cut_short_is_a_dataerror_that_names_it_and_the_way_out(tmp_path, spoil):
    path = tmp_path / "c.pt"
    results.Checkpoint(path, IDENTITY).save({"w": torch.ones(100)})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"c\.pt: .*--resume"):
        results.Checkpoint(path, IDENTITY).load()


@pytest.mark.parametrize("content", [[1, 2], {"state": 1}, {"identity": IDENTITY}, torch.ones(2)], ids=range(4))
def test_a_file_that_is_no_checkpoint_is_a_dataerror(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(DataError, match="no checkpoint of this project"):
        results.Checkpoint(tmp_path / "c.pt", IDENTITY).load()


# ---- a run and its folder


def test_nothing_is_written_before_the_run_is_entered(tmp_path):
    make_run(tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_run_leaves_its_plots_and_results_json_and_nothing_else(tmp_path):
    with make_run(tmp_path) as run:
        run.checkpoint("a").save({"epoch": 1})
        assert (tmp_path / "script" / "checkpoint-a.pt").exists()
        finish(run)
    assert set(snapshot(tmp_path)) == {"script", "script/plot.png", "script/results.json"}


def test_results_json_has_the_promised_keys_and_what_the_run_was_given(tmp_path):
    with make_run(tmp_path, seed=5) as run:
        finish(run)
    saved = json.loads((tmp_path / "script" / "results.json").read_text())
    assert saved.keys() == RESULTS_KEYS
    assert (saved["script"], saved["data"], saved["weights"], saved["seed"]) == (
        "script",
        "some data",
        "some weights",
        5,
    )
    assert (saved["settings"], saved["metrics"]) == ({"epochs": 3}, {"accuracy": 0.5})
    assert saved["table"] == {"columns": ["what", "accuracy"], "rows": [["model", "50.0%"]]}
    assert saved["plots"] == [{"file": "plot.png", "title": "A plot", "caption": "What to see in it."}]
    assert saved["seconds"]["total"] >= 0 and saved["versions"].keys() >= {"python", "numpy", "torch", "machine"}


def test_results_json_is_written_after_the_plots_and_before_the_checkpoints_go(tmp_path, monkeypatch):
    there = {}
    write = files.os.replace

    def replace(source, target):
        write(source, target)
        there[target.name] = {path.name for path in target.parent.iterdir()}

    with make_run(tmp_path) as run:
        run.checkpoint("a").save({})
        monkeypatch.setattr(files.os, "replace", replace)
        finish(run)
    assert list(there) == ["plot.png", "results.json"]  # in the folder of unfinished files, then in the run's own
    assert there["results.json"] >= {"plot.png", "checkpoint-a.pt"}


def test_until_a_run_is_finished_the_results_of_the_one_before_stay_as_they_were(tmp_path):
    with make_run(tmp_path) as run:
        run.model("model.pt", {"run": 1})
        run.text("said.txt", ["one"])
        finish(run)
    before = snapshot(tmp_path / "script")
    with make_run(tmp_path) as run:
        run.model("model.pt", {"run": 2})
        run.text("said.txt", ["two"])
        assert {name: snapshot(tmp_path / "script")[name] for name in before} == before
        finish(run)
    assert (tmp_path / "script" / "said.txt").read_text() == "two\n"
    assert snapshot(tmp_path / "script").keys() == before.keys()


@pytest.mark.parametrize("file", ["first.pt", "first.png"])
def test_a_run_whose_plot_or_model_was_removed_meanwhile_writes_no_results_json_and_names_it(tmp_path, file):
    with make_run(tmp_path) as run:
        run.model("first.pt", {})
        run.figure(plot.new_figure(1, 1), "first.png", "A plot", "What to see in it.")
        (run.unfinished / file).unlink()
        with pytest.raises(DataError, match=f"{file}: was removed while the run was busy"):
            finish(run)
    assert not (tmp_path / "script" / "results.json").exists()


@pytest.mark.parametrize("kind", ["a link", "a file"])
def test_what_lies_in_the_place_of_the_unfinished_files_is_named_and_nothing_behind_it_is_touched(tmp_path, kind):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (tmp_path / "script").mkdir()
    place = tmp_path / "script" / "unfinished"
    place.symlink_to(tmp_path / "mine") if kind == "a link" else place.touch()
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match="script/unfinished: .*remove it"), make_run(tmp_path):
        pass
    assert snapshot(tmp_path) == before


def test_a_folder_in_the_place_of_a_result_is_named_before_any_result_is_replaced(tmp_path):
    with make_run(tmp_path) as run:
        finish(run)
    with make_run(tmp_path) as run:
        run.model("model.pt", {})
        (run.folder / "model.pt").mkdir()
        before = snapshot(run.folder)
        with pytest.raises(DataError, match="script/model.pt: is a folder"):
            finish(run)
        assert {name: snapshot(run.folder)[name] for name in before} == before


def test_an_earlier_results_json_cannot_have_the_new_one_or_a_checkpoint_removed(tmp_path):
    with make_run(tmp_path) as run:
        finish(run)
    path = tmp_path / "script" / "results.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "texts": ["results.json", "checkpoint-start.pt", "x.md"]})
    )
    (path.parent / "x.md").touch()
    with make_run(tmp_path) as run:
        finish(run)
    assert json.loads(path.read_text())["texts"] == [] and (path.parent / "x.md").exists()


def test_outdated_files_go_before_results_json_is_replaced_so_that_a_kill_leaves_none(tmp_path, monkeypatch):
    with make_run(tmp_path) as run:
        run.model("old.pt", {})
        finish(run)
    with make_run(tmp_path) as run:
        move = run._move_up
        monkeypatch.setattr(run, "_move_up", lambda file: file != "results.json" and move(file))
        with pytest.raises(DataError):  # as if killed: results.json has not moved
            monkeypatch.setattr(run, "_clear", lambda: (_ for _ in ()).throw(DataError("killed")))
            finish(run)
    assert not (tmp_path / "script" / "old.pt").exists()


def test_a_new_run_drops_what_an_unfinished_one_had_written(tmp_path):
    with make_run(tmp_path) as run:
        run.text("said.txt", ["one"])
    with make_run(tmp_path):
        assert set(snapshot(tmp_path / "script")) == {"checkpoint-start.pt"}


def test_the_end_of_a_run_prints_the_table_and_the_paths_of_the_plots(tmp_path, capsys):
    with make_run(tmp_path) as run:
        finish(run)
    out = capsys.readouterr().out
    assert "some data" in out and "model  50.0%" in out and str(tmp_path / "script" / "plot.png") in out


def test_quick_runs_have_a_folder_of_their_own(tmp_path):
    with make_run(tmp_path, quick=True) as run:
        finish(run)
    assert [path.name for path in tmp_path.iterdir()] == ["script-quick"]


def test_a_second_run_into_the_same_folder_at_once_is_refused_and_changes_nothing(tmp_path):
    with make_run(tmp_path) as run:
        run.checkpoint("a").save({})
        (run.folder / ".unfinished-1-x").touch()
        before = snapshot(tmp_path)
        with pytest.raises(DataError, match="another run"), make_run(tmp_path):
            pass
        assert snapshot(tmp_path) == before
    with make_run(tmp_path):  # the first has ended
        pass


def test_a_run_that_fails_gives_its_folder_free(tmp_path):
    with pytest.raises(ZeroDivisionError), make_run(tmp_path):
        raise ZeroDivisionError
    with make_run(tmp_path):
        pass


def test_a_new_run_drops_the_checkpoints_and_unfinished_files_of_a_killed_one(tmp_path):
    with make_run(tmp_path, {"epochs": 9}) as run:
        run.checkpoint("a").save({})
        (run.folder / ".unfinished-1-x").touch()
    with make_run(tmp_path) as run:
        assert [path.name for path in run.folder.iterdir()] == ["checkpoint-start.pt"]
        assert run.checkpoint("a").load() is None


def test_a_resumed_run_finds_its_checkpoints_and_drops_unfinished_files(tmp_path):
    with make_run(tmp_path) as run:
        run.checkpoint("a").save({"epoch": 2})
        (run.folder / ".unfinished-1-x").touch()
    with make_run(tmp_path, resume=True) as run:
        assert run.checkpoint("a").load() == {"epoch": 2} and run.finished is None
        assert {path.name for path in run.folder.iterdir()} == {"checkpoint-start.pt", "checkpoint-a.pt"}


def test_a_checkpoint_makes_resume_go_on_although_an_earlier_run_is_finished(tmp_path):
    with make_run(tmp_path) as run:
        finish(run)
    with make_run(tmp_path) as run:
        run.checkpoint("a").save({"epoch": 1})
    with make_run(tmp_path, resume=True) as run:
        assert run.finished is None and run.checkpoint("a").load() == {"epoch": 1}


def test_a_run_killed_before_its_first_checkpoint_is_resumed_although_an_earlier_one_of_other_settings_is_finished(
    tmp_path,
):
    with make_run(tmp_path, {"epochs": 1}) as run:
        finish(run)
    with make_run(tmp_path, {"epochs": 2}):
        pass
    with make_run(tmp_path, {"epochs": 2}, resume=True) as run:
        assert run.finished is None


def test_plots_and_models_of_the_run_before_that_a_run_does_not_write_again_go(tmp_path):
    with make_run(tmp_path) as run:
        run.model("old.pt", {})
        run.text("old.txt", [])
        run.model("both.pt", {})
        finish(run)
    (tmp_path / "script" / "my own.png").touch()
    with make_run(tmp_path) as run:
        run.model("both.pt", {})
        finish(run)
    names = {path.name for path in (tmp_path / "script").iterdir()}
    assert names == {"results.json", "plot.png", "both.pt", "my own.png"}


@pytest.mark.parametrize(
    "model", ["x" * 5000, "a\0b", 1, None, ["m.pt"]], ids=["long", "zero", "number", "none", "list"]
)
def test_a_run_finishes_although_the_run_before_names_a_model_that_can_be_no_file(tmp_path, model):
    with make_run(tmp_path) as run:
        finish(run)
    path = tmp_path / "script" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "models": [model]}))
    with make_run(tmp_path) as run:
        finish(run)
    assert json.loads(path.read_text())["models"] == []


@pytest.mark.parametrize(
    "content",
    [torch.ones(3, 3).to_sparse(), torch.ones(1).expand(10**9), torch.empty(2, device="meta")],
    ids=["sparse", "larger than the file", "without content"],
)
def test_tensors_of_an_odd_kind_are_a_dataerror(tmp_path, content):
    torch.save({"fc.weight": content}, tmp_path / "odd.pth")
    with pytest.raises(DataError, match="odd.pth: "):
        load_tensors(tmp_path / "odd.pth", "a weights file")


@pytest.mark.parametrize(
    "text, line",
    [("a\nb", "a\\nb"), ("\x1b[2J", "\\x1b[2J"), ("\udce9", "\\udce9"), ("蟻 $x$", "蟻 $x$"), ("x" * 9, "xxxx ...")],
)
def test_what_is_shown_is_one_line_without_control_characters_and_not_too_long(text, line):
    assert results.shown(text, most=8 if len(text) < 9 else 4) == line


def test_resume_finds_an_equal_run_that_is_finished(tmp_path):
    with make_run(tmp_path) as run:
        finish(run)
    with make_run(tmp_path, resume=True) as run:
        assert run.finished["metrics"] == {"accuracy": 0.5}


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "stopped"])
@pytest.mark.parametrize("other, name", [({"settings": {"epochs": 4}}, "epochs"), ({"seed": 1}, "seed")])
def test_resume_of_a_run_of_other_settings_is_refused_with_the_name_of_the_setting(tmp_path, finished, other, name):
    with make_run(tmp_path) as run:
        run.checkpoint("a").save({})
        if finished:
            finish(run)
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=f"{name} = "), make_run(tmp_path, resume=True, **other):
        pass
    assert snapshot(tmp_path) == before


def test_resume_with_nothing_there_says_so_and_starts_anew(tmp_path, capsys):
    with make_run(tmp_path, resume=True) as run:
        assert run.finished is None
    assert "--resume: no checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"settings": {}, "plots": []}', "\0", '"text"', "[" * 100_000])
def test_a_broken_results_json_is_a_dataerror_that_names_it(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results\.json"):
        results.read_results(tmp_path / "results.json")


@pytest.mark.parametrize("columns, rows, plots", [("ab", [], []), (["a"], {"b": 1}, []), (["a"], ["b"], []),
                                                  (["a"], [], {})], ids=str)  # fmt: skip
def test_a_results_json_whose_table_or_plots_are_no_lists_is_a_dataerror(tmp_path, columns, rows, plots):
    texts = dict(script="a", data="b", weights="c", settings={})
    files.write_json(tmp_path / "results.json", {**texts, "table": {"columns": columns, "rows": rows}, "plots": plots})
    with pytest.raises(DataError, match=r"results\.json"):
        results.read_results(tmp_path / "results.json")


def test_a_file_in_the_place_of_the_results_folder_is_a_dataerror_that_names_it(tmp_path):
    (tmp_path / "results").write_text("notes")
    with pytest.raises(DataError, match="results"), make_run(tmp_path / "results"):
        pass
    assert (tmp_path / "results").read_text() == "notes"


# ---- tables and figures


def test_print_table_pads_every_column_to_its_widest_cell(capsys):
    results.print_table(["a", "long name"], [["wide cell", "1"], ["x", ""]])
    assert capsys.readouterr().out.splitlines() == [
        "a          long name",
        "---------  ---------",
        "wide cell  1",
        "x",
    ]


def test_a_figure_is_a_png_of_its_inches_at_150_dots_and_has_something_on_it(tmp_path):
    figure = plot.new_figure(4, 2)
    figure.subplots().plot([1, 3, 2])
    plot.save_figure(figure, tmp_path / "new" / "plot.png")
    with Image.open(tmp_path / "new" / "plot.png") as image:
        assert (image.format, image.size) == ("PNG", (600, 300)) and len(image.convert("L").getcolors()) > 2


# ---- python -m data.results


@pytest.fixture
def all_results(monkeypatch):
    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["results", *map(str, argv)])
        results.main()

    return run


def test_the_overview_is_one_table_of_all_runs_with_the_paths_of_their_plots(tmp_path, all_results, capsys):
    for script in ("first", "second"):
        with results.Run(script, make_args(tmp_path), f"data of {script}", "none", {}) as run:
            finish(run)
    capsys.readouterr()
    all_results(tmp_path)
    out = capsys.readouterr().out
    assert out.count("----") and out.count("script ") == 1  # one header
    for script in ("first", "second"):
        assert re.search(rf"^{script} +data of {script} +model +accuracy 50\.0%", out, re.MULTILINE)
        assert str(tmp_path / script / "plot.png") in out


def test_the_overview_has_the_problems_in_the_homeworks_order():
    names = ["sentiment", "x", "image_captioning-full", "style_transfer-quick", "transfer_learning"]
    assert sorted(names, key=results.homework_order) == [names[4], names[3], names[2], "sentiment", "x"]


def test_the_overview_of_a_folder_without_results_is_a_dataerror_that_names_it(tmp_path, all_results):
    with pytest.raises(DataError, match=f"{tmp_path}: no results there"):
        all_results(tmp_path)


def test_the_overview_runs_from_the_command_line_and_fails_in_one_line(tmp_path):
    done = run_python("-m", "data.results", tmp_path / "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ") and str(tmp_path / "none") in done.stderr


# ---- the last words


def fail_with(error):
    def main():
        raise error

    return main


def end_of(main, capsys):
    with pytest.raises(SystemExit) as end:
        results.run_main(main)
    return end.value.code, capsys.readouterr().err


def test_wrong_input_ends_in_one_line_and_status_2(capsys):
    assert end_of(fail_with(DataError("x.txt: is empty")), capsys) == (2, "error: x.txt: is empty\n")


@pytest.mark.parametrize("character", ["\n", "\r", "\v", "\x1b[2J", "\u2028", "\x85", "\t", "\udc80", "\0"], ids=ascii)
def test_a_name_with_control_characters_stays_on_one_line(capsys, character):
    status, line = end_of(fail_with(DataError(f"a{character}b: no such file")), capsys)
    assert status == 2 and len(line.splitlines()) == 1 and line.endswith("\n") and line[:-1].isprintable()


def test_letters_of_any_language_stay_readable_in_the_last_line(capsys):
    assert end_of(fail_with(DataError("蟻 Käfer: none")), capsys)[1] == "error: 蟻 Käfer: none\n"


def test_ctrl_c_ends_in_one_line_that_names_resume_and_status_130(capsys):
    status, line = end_of(fail_with(KeyboardInterrupt()), capsys)
    assert status == 130 and line.count("\n") == 1 and "--resume" in line


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
    ids=["Python", "PyTorch", "CUDA"],
)
def test_too_little_memory_is_one_line_and_status_2(capsys, error):
    assert end_of(fail_with(error), capsys) == (2, "error: not enough memory; try smaller sizes (see --help)\n")


def test_another_error_of_pytorch_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="size mismatch"):
        results.run_main(fail_with(RuntimeError("size mismatch")))


def test_pytorch_s_own_words_for_no_memory_are_understood(capsys):
    assert end_of(lambda: torch.empty(2**50), capsys)[0] == 2


def test_ctrl_c_before_the_program_has_begun_is_one_line_and_status_130():
    code = (
        "import os, signal; from data import catch_ctrl_c; catch_ctrl_c()\n"
        "os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stderr) == (130, "stopped before anything was begun\n")


def test_ctrl_c_after_the_program_has_begun_is_run_main_s_to_answer_and_pressed_twice_too():
    code = (
        "import os, signal; from data import catch_ctrl_c; catch_ctrl_c(); from data import results\n"
        "def press(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "results._last_words = lambda *words, say=results._last_words: press() or say(*words)\n"
        "results.run_main(press)"
    )
    done = run_python("-c", code)
    assert done.returncode == 130 and done.stderr.startswith("stopped; ") and done.stderr.count("\n") == 1


def test_a_program_in_the_background_goes_on_not_to_hear_ctrl_c():
    code = (
        "import os, signal; from data import catch_ctrl_c; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "catch_ctrl_c(); os.kill(os.getpid(), signal.SIGINT); print('on')"
    )
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (0, "on\n")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        results.run_main(fail_with(ZeroDivisionError()))


def test_a_reader_of_the_output_that_has_gone_ends_the_script_quietly():
    code = "import sys; sys.stdin.read(); from data.results import run_main; run_main(lambda: print('one line'))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPO, env=python_environment(), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
