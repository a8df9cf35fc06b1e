"""common/report.py: the page of all results and the printed summary."""

import json
import re
import sys

import pytest
from PIL import Image

from common import report
from common.cli import UserError
from tests import gradient_check
from tests.conftest import REPO


def add_run(folder, name, rows=(("model", "50.0%"),), files=("plot.png",), **more):
    """Writes a finished run as the scripts do, with plots of 1,500 x 800 pixels."""
    (folder / name).mkdir(parents=True)
    for file in files:
        Image.new("RGB", (1500, 800)).save(folder / name / file)
    plots = [{"file": file, "title": f"Title of {file}", "caption": "What to see."} for file in files]
    results = {"data": f"data of {name}", "weights": "some weights", "seed": 7, "plots": plots,
               "table": {"columns": ["what", "accuracy"], "rows": rows},
               "seconds": {"lstm": 3.2, "total": 123.4}, "versions": {"numpy": "9.8"}}  # fmt: skip
    (folder / name / "results.json").write_text(json.dumps({**results, **more}))


@pytest.fixture
def make(tmp_path, capsys):
    """Makes the page of tmp_path. Returns its HTML and the printed lines."""

    def make():
        report.main([str(tmp_path)])
        return (tmp_path / "report.html").read_text(encoding="utf-8"), capsys.readouterr().out.splitlines()

    return make


def test_a_run_shows_table_main_plot_data_and_other_plots(tmp_path, make):
    add_run(tmp_path, "sentiment", files=("learning_curves.png", "test_accuracy.png"), texts=["predictions_q1.txt"])
    page, _ = make()
    text = " ".join(re.sub("<[^>]*>", " ", page.partition('id="problem-6"')[2]).split())
    order = ("model 50.0%", "Title of test_accuracy.png", "Data data of sentiment", "some weights", "Seed 7",
             "2 min 3 s (lstm 3.2 s)", "numpy 9.8", "predictions_q1.txt", "Title of learning_curves.png")  # fmt: skip
    assert re.search(".*".join(map(re.escape, order)), text)
    assert '<a href="sentiment/predictions_q1.txt">' in page
    assert re.findall(r'<h2 id="problem-(\d)"', page) == list("123456")


def test_plots_are_embedded_and_scaled_down(tmp_path, make):
    add_run(tmp_path, "sentiment", files=("a.png", "b.png"))
    page, _ = make()
    picture = r'<div class="scroll"[^>]*>\s*<img src="data:image/webp;base64,[^"]*" width="900" height="480"'
    assert len(re.findall(picture, page)) == 2
    assert "://" not in page  # no external resources


def test_text_from_results_is_escaped(tmp_path, make):
    add_run(tmp_path, "sentiment", rows=[["<script>", "<b>"]], data="<script>")
    page, _ = make()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_missing_or_broken_plot_becomes_a_note(tmp_path, make):
    add_run(tmp_path, "sentiment", files=("gone.png", "cut.png"))
    (tmp_path / "sentiment" / "gone.png").unlink()
    (tmp_path / "sentiment" / "cut.png").write_bytes(b"\x89PNG")
    page, _ = make()
    assert "gone.png is missing" in page and "cut.png is missing, or is not a picture" in page


def test_a_quick_run_is_shown_only_without_a_full_run(tmp_path, make):
    add_run(tmp_path, "sentiment-quick")
    page, lines = make()
    assert "data of sentiment-quick" in page and ">quick run<" in page and ", quick " in lines[-2]
    add_run(tmp_path, "sentiment")
    page, lines = make()
    assert "data of sentiment<" in page and ">quick run<" not in page and ", quick " not in lines[-2]


def test_missing_and_unfinished_runs_are_listed(tmp_path, make):
    (tmp_path / "style_transfer.partial").mkdir()
    page, lines = make()
    assert "style_transfer.partial</code> holds an unfinished run" in page
    assert f"python image_captioning.py --full --results {tmp_path}" in page
    assert f"not run yet: python sentiment.py --results {tmp_path}" in lines[-2]


def test_the_gradient_table_is_saved_and_shown(tmp_path, make, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rnn_layers.py", "--save", str(tmp_path / "gradients.json")])
    with pytest.raises(SystemExit) as done:
        gradient_check.print_table()
    assert not done.value.code and capsys.readouterr().out.startswith("layer ")
    page, lines = make()
    assert re.findall(r'<th scope="row">(\w+)', page) == ["rnn_step", "rnn", "lstm_step", "lstm"]
    assert re.match(r"3 RNN +random +gradient error: rnn_step \d\.\de-\d\d, rnn \d", lines[2])


@pytest.mark.parametrize("problem", report.RUNS)
def test_summary_lines_of_the_reference_results_fit_80_columns(problem):
    folder, _, column, label = report.RUNS[problem]
    results = json.loads((REPO / "docs" / f"{folder}-builtin.json").read_text())
    line = report.line(problem, {"results": results, "quick": False, "column": column, "label": label})
    assert len(line) <= 80 and re.fullmatch(rf"{problem} +built-in +{label}: \w.* [\d.,%]+( of 50)?", line)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_missing_or_broken_results_are_a_user_error(tmp_path, content):
    if content:
        add_run(tmp_path, "sentiment")
        (tmp_path / "sentiment" / "results.json").write_text(content)
    with pytest.raises(UserError, match="results.json: broken; remove it" if content else "has no results; run a"):
        report.main([str(tmp_path)])
    assert not (tmp_path / "report.html").exists()
