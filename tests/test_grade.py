"""tests/grade.py on our own layers, on them with one mistake each, on plain ones as a student writes them, on broken ones."""

import re
import shutil
import subprocess
import textwrap
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from tests import grade
from tests.conftest import snapshot
from tests.grade_worker import Other, pack, unpack

ROOT = Path(__file__).resolve().parent.parent
LINES = [line.function for lines in (*grade.ASKED.values(), grade.OPTIONAL) for line in lines]

Report = namedtuple("Report", "cells remarks points out")


@pytest.fixture
def graded(command):
    """Grades a folder: {function: {column: cell}}, {function: remarks}, (points, of), all that was printed."""

    def run(folder, *flags):
        status, out, err = command(grade.main, folder, *flags)
        assert (status, err) == (0, ""), err
        header = next(line for line in out.splitlines() if line.split() == list(grade.COLUMNS))
        columns = {header.index(column) + len(column): column for column in grade.COLUMNS}  # by where they end
        cells, remarks = {}, {}
        for line in out.splitlines():
            if line.startswith(" " * 6) and cells:
                remarks[name] = f"{remarks.get(name, '')} {line.strip()}".strip()
            elif found := next((name for name in LINES if line.startswith(f"  {name}  ")), None):
                name = found
                cells[name] = {columns[30 + m.end()]: m[0] for m in re.finditer(r"not there|\S+", line[30:])}
        assert list(cells) == LINES  # a line a function, whatever happened
        [(got, most)] = re.findall(r"^total +(\d+) of +(\d+) points", out, re.M)
        return Report(cells, remarks, (int(got), int(most)), out)

    return run


def failures(report):
    """{function: the columns that are not ok}, for the functions that have any."""
    found = {name: {c for c, cell in cells.items() if cell != "ok"} for name, cells in report.cells.items()}
    return {name: columns for name, columns in found.items() if columns}


@pytest.fixture
def ours(tmp_path):
    """A copy of our modules to spoil."""
    folder = tmp_path / "student"
    folder.mkdir()
    for module in grade.OURS:
        shutil.copy(ROOT / f"{module}.py", folder)
    return folder


def replace(file, function, *changes):
    """Changes the body of one function in a file; each old text must stand in it once."""
    source = file.read_text(encoding="utf-8")
    start = source.index(f"def {function}(")
    end = source.find("\ndef ", start) if "\ndef " in source[start:] else len(source)
    body = source[start:end]
    for old, new in changes:
        assert body.count(old) == 1, (old, body.count(old))
        body = body.replace(old, new)
    file.write_text(source[:start] + body + source[end:], encoding="utf-8")


# ---- ours


def test_our_own_layers_get_full_marks_in_everything(graded):
    report = graded(ROOT)
    assert failures(report) == {} and report.remarks == {}
    assert report.points == (18, 18) and "61 of 61 checks" in report.out


# ---- ours with one mistake each: file, function, changes, what is not ok, and the words that say why

V, G, F, U, S = "values", "gradients", "float32", "unchanged", "stable"
LOSS_RNN, LOSS_LSTM = "CaptioningRNN.loss, rnn", "CaptioningRNN.loss, lstm"
SAMPLE_RNN, SAMPLE_LSTM = "CaptioningRNN.sample, rnn", "CaptioningRNN.sample, lstm"
RETURN_RNN = "return dx.reshape(T, N, len(Wx)), np.ascontiguousarray(dprev_h), dWx, dWh, db"
RETURN_STEP = "return dx, da @ Wh.T, dWx, dWh, db"

MISTAKES = {
    "the mask is lost": (
        "rnn_layers.py", "temporal_softmax_loss", [("mask.reshape(N * T).astype(float_type(x))", "np.ones(N * T)")],
        {"temporal_softmax_loss": {V, S, F}},
        ["it fits a mask that is not used", "gradients: right for the student's own forward"],
    ),
    "the mask is lost in the gradient": (
        "rnn_layers.py", "temporal_softmax_loss", [("dx = dx.reshape(N, T, V)", "dx = dx.reshape(N, T, V) + 1 / N")],
        {"temporal_softmax_loss": {G, S}}, ["gradients: dx["],
    ),
    "a mean over the mask": (
        "rnn_layers.py", "temporal_softmax_loss", [("(float_type(x)) / N", "(float_type(x)) / float(mask.sum())")],
        {"temporal_softmax_loss": {V, S}}, ["it fits a mean over the elements of the mask"],
    ),
    "the LSTM's gates in another order in the forward alone": (
        "rnn_layers.py", "_lstm_cell", [("f, i, c_tilde, o = a", "i, f, c_tilde, o = a")],
        {
            "lstm_step_forward": {V, S}, "lstm_step_backward": {G, S}, "lstm_forward": {V, S}, "lstm_backward": {G, S},
            LOSS_LSTM: {V, G, S}, SAMPLE_LSTM: {V},
        },
        ["it fits gates stacked i, f, c̃, o; the handout's are f, i, c̃, o"],
    ),
    "a bias gradient of zero": (
        "rnn_layers.py", "rnn_backward", [(RETURN_RNN, RETURN_RNN.replace("db", "0 * db"))],
        {"rnn_backward": {G, S}, LOSS_RNN: {G, S}}, ["gradients: db[", "all of it is zero"],
    ),
    "a bias gradient that is missing": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_STEP, RETURN_STEP.removesuffix(", db"))],
        {"rnn_step_backward": {G, F, U, S}}, ["returned 4 values, expected 5: dx, dprev_h, dWx, dWh, db"],
    ),
    "a transposed weight gradient": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_STEP, RETURN_STEP.replace("dWh", "dWh.T"))],
        {"rnn_step_backward": {G, S}}, ["gradients: dWh[", "it is the transpose of what is right"],
    ),
    "gradients in another order": (
        "rnn_layers.py", "lstm_step_backward", [("return dx, da @ Wh.T, dprev_c,", "return dx, dprev_c, da @ Wh.T,")],
        {"lstm_step_backward": {G, S}}, ["it is what dprev_c should be: is the order of the results right?"],
    ),
    "a sign that is turned": (
        "rnn_layers.py", "temporal_fc_backward", [("dx.reshape(N, T, D), dw, db", "dx.reshape(N, T, D), -dw, db")],
        {"temporal_fc_backward": {G}}, ["gradients: dw[", "its sign is turned"],
    ),
    "a mean that nobody asked for": (
        "rnn_layers.py", "temporal_fc_backward", [("dx.reshape(N, T, D), dw, db", "dx.reshape(N, T, D), dw / N, db")],
        {"temporal_fc_backward": {G}}, ["it is what is right, divided by N = 3"],
    ),
    "an output gate without its gradient": (
        "rnn_layers.py", "lstm_step_backward", [("dx, dWx,", "da[:, 3 * H :] = 0; dx, dWx,")],
        {"lstm_step_backward": {G, S}}, [],
    ),
    "a dh changed in place": (
        "rnn_layers.py", "rnn_backward", [("np.multiply(dh[t] + dprev_h,", "dh[t] += dprev_h; np.multiply(dh[t],")],
        {"rnn_backward": {U}}, ["unchanged: changes its argument dh"],
    ),
    "a mask changed in place": (
        "rnn_layers.py", "temporal_softmax_loss", [("dx = dx.reshape(N, T, V)", "mask[:] = 1; dx = dx.reshape(N, T, V)")],
        {"temporal_softmax_loss": {U}}, ["unchanged: changes its argument mask"],
    ),
    "states in double precision": (
        "rnn_layers.py", "rnn_forward", [("float_type(x, h0, Wx, Wh, b)", "np.float64")],
        {"rnn_forward": {F}, "rnn_backward": {F}, LOSS_RNN: {F}},
        ["float32: h is float64 where all that came in was float32"],
    ),
    "an unstable softmax": (
        "layers.py", "weighted_softmax_loss", [("x.max(axis=1, keepdims=True)", "0")],
        {name: {S} for name in ("temporal_softmax_loss", "softmax_loss", LOSS_RNN, LOSS_LSTM)}, ["stable: loss is nan"],
    ),
    "an unstable sigmoid": (
        "layers.py", "sigmoid", [("return np.where(x >= 0, 1, z) / (1 + z)", "return np.exp(x) / (1 + np.exp(x))")],
        {"sigmoid": {S}}, ["stable: out[", "is nan, expected 1"],
    ),
    "a time step too few": (
        "rnn_layers.py", "rnn_forward", [("range(T)", "range(T - 1)")],
        {"rnn_forward": {V, S}, "rnn_backward": {G, S}, LOSS_RNN: {V, G, S}}, ["all with t = 3"],
    ),
    "scores of another shape": (
        "rnn_layers.py", "temporal_fc_forward", [("return out.reshape(N, T, M)", "return out")],
        {"temporal_fc_forward": {V}}, ["values: out has shape (12, 8), expected (N, T, M) = (3, 4, 8)"],
    ),
    "batch before time": (
        "rnn_layers.py", "lstm_forward", [("return h[1:],", "return h[1:].swapaxes(0, 1),")],
        {"lstm_forward": {V, S}, LOSS_LSTM: {V, G, F, U, S}},
        ["values: h has shape (3, 4, 6), expected (T, N, H) = (4, 3, 6)", "axes 0 and 1 are exchanged"],
    ),
    "an exception": (
        "rnn_layers.py", "lstm_backward", [("dprev_h, dprev_c = np.zeros((2, N, H), h.dtype)", "1 / 0")],
        {"lstm_backward": {G, F, U, S}, LOSS_LSTM: {V, G, F, U, S}},
        [r"gradients: rnn_layers.py line LINE: ZeroDivisionError: division by zero"],
    ),
    "nothing returned": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_STEP, "")],
        {"rnn_step_backward": {G, F, U, S}}, ["gradients: returned None, expected 5: dx, dprev_h, dWx, dWh, db"],
    ),
    "None for a gradient": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_STEP, RETURN_STEP.replace("dWx", "None"))],
        {"rnn_step_backward": {G, S}}, ["gradients: dWx is None, expected (D, H) = (5, 6)"],
    ),
    "a process that ends itself": (
        "rnn_layers.py", "lstm_step_backward", [("N, H = check_shapes", "import os; os._exit(3); N, H = check_shapes")],
        {"lstm_step_backward": {G, F, U, S}}, ["gradients: ended the Python process (os._exit, status 3)"],
    ),
    "sys.exit in a function": (
        "rnn_layers.py", "lstm_step_backward", [("N, H = check_shapes", "raise SystemExit; N, H = check_shapes")],
        {"lstm_step_backward": {G, F, U, S}}, ["gradients: rnn_layers.py line LINE: ends the program (sys.exit)"],
    ),
    "input() in a function": (
        "rnn_layers.py", "lstm_step_backward", [("N, H = check_shapes", "input(); N, H = check_shapes")],
        {"lstm_step_backward": {G, F, U, S}}, ["EOFError"],
    ),
    "an endless loop": (
        "rnn_layers.py", "lstm_step_backward", [("N, H = check_shapes", "exec('while True: pass'); N, H = check_shapes")],
        {"lstm_step_backward": {G, F, U, S}}, ["gradients: not done after 2 s, and stopped: an endless loop?"],
    ),
    "a function of another name": (
        "rnn_layers.py", "temporal_fc_backward", [("def temporal_fc_backward", "def temporal_fully_connected_backward")],
        {"temporal_fc_backward": {G, F, U}}, ["rnn_layers.py has no function temporal_fc_backward"],
    ),
    "a forward of another name": (
        "rnn_layers.py", "temporal_fc_forward", [("def temporal_fc_forward", "def temporal_fully_connected_forward")],
        {"temporal_fc_forward": {V, F, U}, "temporal_fc_backward": {G, F, U}},
        ["rnn_layers.py has no function temporal_fc_forward", "not tried: it needs the cache of temporal_fc_forward"],
    ),
    "a model without a gradient": (
        "rnn.py", "__init__", [('_, grads["W_proj"], grads["b_proj"]', '_, _, grads["b_proj"]')],
        {LOSS_RNN: {G, S}, LOSS_LSTM: {G, S}}, ["gradients: grads has no W_proj"],
    ),
    "a model whose padding counts": (
        "rnn.py", "__init__", [("asked = words_out != self.null", "asked = words_out >= 0")],
        {LOSS_RNN: {V, S}, LOSS_LSTM: {V, S}}, ["gradients: right for the student's own forward"],
    ),
    "captions that begin with START": (
        "rnn.py", "__init__",
        [("return captions\n\n    def beam_search", "return np.insert(captions, 0, 1, axis=1)\n\n    def beam_search")],
        {SAMPLE_RNN: {V}, SAMPLE_LSTM: {V}}, ["captions begin with the first word that is said, not with <START>"],
    ),
}  # fmt: skip




def batches():
    """The mistakes in a few submissions, so that the tests take seconds: those in one concern different lines."""
    found = []
    for name, (_, function, _, expected, _) in MISTAKES.items():
        concerned = {function, *expected}
        place = next((k for k, (_, taken) in enumerate(found) if not taken & concerned), len(found))
        found[place:] = found[place:] or [([], set())]
        found[place][0].append(name)
        found[place][1].update(concerned)
    return [names for names, _ in found]


BATCHES = batches()
_reports = {}


@pytest.fixture
def report_of(graded, ours):
    """The report on the submission with this mistake, and the lines that the others in it concern."""

    def get(mistake):
        batch = next(k for k, names in enumerate(BATCHES) if mistake in names)
        if batch not in _reports:
            for name in BATCHES[batch]:
                file, function, changes, _, _ = MISTAKES[name]
                replace(ours / file, function, *changes)
            _reports[batch] = graded(ours, "--timeout", 2 if "an endless loop" in BATCHES[batch] else 60)
        others = {line for name in BATCHES[batch] if name != mistake for line in MISTAKES[name][3]}
        return _reports[batch], others

    return get


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_in_the_lines_that_it_concerns_and_in_no_other(report_of, mistake):
    *_, expected, words = MISTAKES[mistake]
    report, others = report_of(mistake)
    assert {name: columns for name, columns in failures(report).items() if name not in others} == expected
    remarks = re.sub(r"line \d+", "line LINE", " ".join(report.remarks.get(name, "") for name in expected))
    for text in words:
        assert text in remarks
