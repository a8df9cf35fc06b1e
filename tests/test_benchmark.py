"""tests/benchmark.py: its figures are what they say, and what it compares with computes the same."""

import json

import pytest

from tests import benchmark
from tests.conftest import run_python
from tests.gradient_check import relative_error
from tests.runs import refused


def test_a_row_has_the_medians_of_both_sides_and_the_median_and_range_of_the_rounds_ratios():
    row = benchmark.Row.of_rounds("a", "b", "ms", [1.0, 4.0, 9.0], [2.0, 2.0, 3.0], bar=1.0)
    assert (row.ours, row.theirs, row.ratio, row.low, row.high) == (4.0, 2.0, 2.0, 0.5, 3.0)


@pytest.mark.parametrize("bar, words", [(2.0, "2, met"), (1.9, "1.9, missed")])
def test_a_row_says_whether_its_bar_is_met(bar, words):
    assert str(benchmark.Row("a", "b", "ms", 4.0, 2.0, bar=bar)).endswith(words)


@pytest.mark.parametrize("cell, plain", [("RNN", benchmark.plain_rnn), ("LSTM", benchmark.plain_lstm)])
def test_the_plain_formulation_has_the_gradients_of_the_layer(cell, plain):
    shape = (5, 3, 4, 6)
    _, gradients = benchmark.numpy_layer(cell, *shape)()
    for ours, theirs in zip(gradients, plain(*benchmark.layer_input(cell, *shape)), strict=True):
        assert relative_error(ours, theirs) < 1e-5


def test_functions_are_timed_in_turns_after_one_warm_up_each():
    calls = []
    times = benchmark.interleaved(lambda: calls.append("a"), lambda: calls.append("b"), pairs=3)
    assert calls == ["a", "b"] * 4 and [len(side) for side in times] == [3, 3]


def test_a_worker_loads_no_pytorch_until_it_is_asked_for():
    assert run_python("-c", "import sys, tests.benchmark; print('torch' in sys.modules)").stdout == "False\n"


def test_the_rows_are_printed_below_one_heading_and_saved(command, tmp_path, monkeypatch):
    rows = [benchmark.Row("a", "b", "ms", 4.0, 2.0), benchmark.Row("c", "d", "s", 1.0, 2.0)]
    monkeypatch.setattr(benchmark, "BENCHMARKS", {"toy": lambda pairs: iter(rows[:pairs])})
    done = command(benchmark.main, "--pairs", 2, "--save", tmp_path / "rows.json")
    assert done.status == 0 and done.out.count(benchmark.HEAD) == 1 and all(str(row) in done.out for row in rows)
    saved = json.loads((tmp_path / "rows.json").read_text())
    assert [row["ratio"] for row in saved["toy"]] == [2.0, 0.5]


@pytest.mark.parametrize("argv", [["nosuch"], ["--pairs", "0"], ["--threads", "x"], ["--save", ""]], ids=str)
def test_a_wrong_word_is_one_line_that_names_it_and_status_2(command, argv):
    assert refused(command(benchmark.main, *argv), argv[0])
