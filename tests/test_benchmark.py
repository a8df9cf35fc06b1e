"""tests/benchmark.py: rows have the right medians, and both sides of a comparison compute the same."""

import json

import pytest

from tests import benchmark
from tests.gradient_check import relative_error


def test_a_row_shows_the_medians_and_whether_the_bar_is_met():
    row = benchmark.row("a", "b", [1.0, 4.0, 9.0], [2.0, 2.0, 3.0], 2.0)
    assert [row[key] for key in ("ours", "theirs", "ratio", "low", "high")] == [4.0, 2.0, 2.0, 0.5, 3.0]
    assert benchmark.line(row).endswith("2, met")
    assert benchmark.line({**row, "bar": 1.9}).endswith("1.9, missed")


@pytest.mark.parametrize("cell", ["RNN", "LSTM"])
def test_sequence_and_steps_give_the_same_results(cell):
    for ours, theirs in zip(*(make(cell, 5, 3, 4, 6)() for make in (benchmark.sequence, benchmark.steps)), strict=True):
        assert relative_error(ours, theirs) < 1e-5


def test_rows_are_printed_and_saved(command, tmp_path, monkeypatch):
    rows = [benchmark.row("a", "b", [4.0], [2.0]), benchmark.row("c", "d", [1.0], [2.0])]
    monkeypatch.setattr(benchmark, "BENCHMARKS", {"toy": lambda pairs: iter(rows[:pairs])})
    done = command(benchmark.main, "--pairs", 2, "--save", tmp_path / "rows.json")
    assert done.status == 0 and all(benchmark.line(row) in done.out for row in rows)
    assert [row["ratio"] for row in json.loads((tmp_path / "rows.json").read_text())["toy"]] == [2.0, 0.5]
