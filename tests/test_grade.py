"""tests/grade.py on our layers, on those with one mistake each, on plain ones as a student writes, on broken files."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import namedtuple

import numpy as np
import pytest

from tests import grade
from tests.conftest import REPO
from tests.grade_worker import Other, pack, unpack

LINES = [line.function for lines in (*grade.ASKED.values(), grade.OPTIONAL) for line in lines]

ASKED = {line.function for lines in grade.ASKED.values() for line in lines}

Report = namedtuple("Report", "cells remarks points out")


def snapshot(folder):
    """Everything below `folder`: relative name to content, None for a folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def graded(command):
    """Grades a folder: {function: {column: cell}}, {function: remarks}, (points, of), all that was printed."""

    def run(folder, *flags):
        status, out, err = command(grade.main, folder, *flags)
        assert (status, err) == (0, ""), err
        header = next(line for line in out.splitlines() if line.split() == list(grade.COLUMNS))
        columns = {header.index(column) + len(column): column for column in grade.COLUMNS}  # by where they end
        cells, remarks, name = {}, {}, None
        for line in out.splitlines():
            if line.startswith(" " * 6) and name:
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
        shutil.copy(REPO / f"{module}.py", folder)
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
    report = graded(REPO)
    assert failures(report) == {} and report.remarks == {}
    assert report.points == (18, 18) and "61 of 61 checks" in report.out


# ---- ours with one mistake each: file, function, changes, what is not ok, and the words that say why

V, G, F, U, S = "values", "gradients", "float32", "unchanged", "stable"
LOSS_RNN, LOSS_LSTM = "CaptioningRNN.loss, rnn", "CaptioningRNN.loss, lstm"
SAMPLE_RNN, SAMPLE_LSTM = "CaptioningRNN.sample, rnn", "CaptioningRNN.sample, lstm"
RETURN_RNN = "return dx, dprev_h, dWx, dWh, db"  # the step's and the sequence's

NO_LOSS = {LOSS_RNN: {V, G, F, U, S}, LOSS_LSTM: {V, G, F, U, S}}

MISTAKES = {
    "the mask is lost": (
        "rnn_layers.py", "temporal_softmax_loss", [("mask.reshape(N * T).astype(x.dtype)", "np.ones(N * T)")],
        {name: {V, S, F} for name in ("temporal_softmax_loss", LOSS_RNN, LOSS_LSTM)},
        ["it fits a mask that is not used", "gradients: right for the student's own forward"],
    ),
    "the mask is lost in the gradient": (
        "rnn_layers.py", "temporal_softmax_loss", [("dx.reshape(N, T, V)", "dx.reshape(N, T, V) + 1 / N")],
        {name: {G, S} for name in ("temporal_softmax_loss", LOSS_RNN, LOSS_LSTM)}, ["gradients: dx["],
    ),
    "a mean over the mask": (
        "rnn_layers.py", "temporal_softmax_loss", [("(x.dtype) / N", "(x.dtype) / float(mask.sum())")],
        {name: {V, S} for name in ("temporal_softmax_loss", LOSS_RNN, LOSS_LSTM)},
        ["it fits a mean over the elements of the mask"],
    ),
    "the LSTM's gates in another order only in the forward": (
        "rnn_layers.py", "lstm_step_forward", [("a_f, a_i, a_c, a_o = np.split", "a_i, a_f, a_c, a_o = np.split")],
        {
            "lstm_step_forward": {V, S}, "lstm_step_backward": {G, S}, SAMPLE_LSTM: {V},
        },
        ["it fits gates stacked i, f, c̃, o; the handout's are f, i, c̃, o"],
    ),
    "a bias gradient of zero": (
        "rnn_layers.py", "rnn_backward", [(RETURN_RNN, RETURN_RNN.replace("db", "0 * db"))],
        {"rnn_backward": {G, S}, LOSS_RNN: {G, S}}, ["gradients: db[", "all of it is zero"],
    ),
    "a bias gradient that is missing": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_RNN, RETURN_RNN.removesuffix(", db"))],
        {"rnn_step_backward": {G, F, U, S}}, ["returned 4 values, expected 5: dx, dprev_h, dWx, dWh, db"],
    ),
    "a transposed weight gradient": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_RNN, RETURN_RNN.replace("dWh", "dWh.T"))],
        {"rnn_step_backward": {G, S}}, ["gradients: dWh[", "it is the transpose of what is right"],
    ),
    "gradients in another order": (
        "rnn_layers.py", "lstm_step_backward", [("return dx, dprev_h, dprev_c,", "return dx, dprev_c, dprev_h,")],
        {"lstm_step_backward": {G, S}}, ["it is what dprev_c should be: is the order of the results right?"],
    ),
    "a sign that is turned": (
        "rnn_layers.py", "temporal_fc_backward", [("dx.reshape(x.shape), dw, db", "dx.reshape(x.shape), -dw, db")],
        {"temporal_fc_backward": {G}, LOSS_RNN: {G, S}, LOSS_LSTM: {G, S}}, ["gradients: dw[", "its sign is turned"],
    ),
    "a mean that nobody asked for": (
        "rnn_layers.py", "temporal_fc_backward", [("dx.reshape(x.shape), dw, db", "dx.reshape(x.shape), dw / N, db")],
        {"temporal_fc_backward": {G}, LOSS_RNN: {G, S}, LOSS_LSTM: {G, S}}, ["it is what is right, divided by N = 3"],
    ),
    "an output gate without its gradient": (
        "rnn_layers.py", "lstm_step_backward", [("da_o = dnext_h", "da_o = 0 * dnext_h")],
        {"lstm_step_backward": {G, S}}, [],
    ),
    "an x changed in place": (
        "rnn_layers.py", "rnn_step_forward", [("return next_h,", "kept = x.copy(); x += 1; x = kept; return next_h,")],
        {"rnn_step_forward": {U}}, ["unchanged: changes its argument x"],
    ),
    "a dh changed in place": (
        "rnn_layers.py", "rnn_backward", [("da[t] = (dh[t] + dprev_h)", "dh[t] += dprev_h; da[t] = dh[t]")],
        {"rnn_backward": {U}}, ["unchanged: changes its argument dh"],
    ),
    "a mask changed in place": (
        "rnn_layers.py", "temporal_softmax_loss", [
            ("x, y, mask = as_arrays", "given = mask; x, y, mask = as_arrays"),
            ("loss, dx = softmax_loss", "given[:] = 1; loss, dx = softmax_loss"),
        ],
        {"temporal_softmax_loss": {U}}, ["unchanged: changes its argument mask"],
    ),
    "states in double precision": (
        "rnn_layers.py", "rnn_forward", [("(T + 1, N, H), x.dtype", "(T + 1, N, H), np.float64")],
        {"rnn_forward": {F}, "rnn_backward": {F}, LOSS_RNN: {F}},
        ["float32: h is float64 where all that came in was float32"],
    ),
    "an unstable softmax": (
        "layers.py", "softmax_loss", [("x.max(axis=1, keepdims=True)", "0")],
        {name: {S} for name in ("temporal_softmax_loss", "softmax_loss", LOSS_RNN, LOSS_LSTM)}, ["stable: loss is nan"],
    ),
    "an unstable sigmoid": (
        "layers.py", "sigmoid",
        [("np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))", "np.exp(x) / (1 + np.exp(x))")],
        {name: {S} for name in ("sigmoid", "lstm_step_forward", "lstm_step_backward")},
        ["stable: out[", "is nan, expected 1"],
    ),
    "a time step too few": (
        "rnn_layers.py", "rnn_forward", [("range(T)", "range(T - 1)")],
        {"rnn_forward": {V, S}, "rnn_backward": {G, S}, LOSS_RNN: {V, G, S}}, ["all with t = 3"],
    ),
    "scores of another shape": (
        "rnn_layers.py", "temporal_fc_forward", [("return out.reshape(N, T, len(b))", "return out")],
        {"temporal_fc_forward": {V}, **NO_LOSS}, ["values: out has shape (12, 8), expected (N, T, M) = (3, 4, 8)"],
    ),
    "batch before time": (
        "rnn_layers.py", "lstm_forward", [("return h[1:],", "return h[1:].swapaxes(0, 1),")],
        {"lstm_forward": {V, S}, LOSS_LSTM: {V, G, F, U, S}},
        ["values: h has shape (3, 4, 6), expected (T, N, H) = (4, 3, 6)", "axes 0 and 1 are exchanged"],
    ),
    "an exception": (
        "rnn_layers.py", "lstm_backward", [("T, N, H = dh.shape", "1 / 0")],
        {"lstm_backward": {G, F, U, S}, LOSS_LSTM: {V, G, F, U, S}},
        [r"gradients: rnn_layers.py line LINE: ZeroDivisionError: division by zero"],
    ),
    "nothing returned": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_RNN, "")],
        {"rnn_step_backward": {G, F, U, S}}, ["gradients: returned None, expected 5: dx, dprev_h, dWx, dWh, db"],
    ),
    "None for a gradient": (
        "rnn_layers.py", "rnn_step_backward", [(RETURN_RNN, RETURN_RNN.replace("dWx", "None"))],
        {"rnn_step_backward": {G, F, S}}, ["gradients: dWx is None, expected (D, H) = (5, 6)"],
    ),
    "a list for a state": (
        "rnn_layers.py", "lstm_step_forward", [("return next_h, next_c,", "return next_h, next_c.tolist(),")],
        {"lstm_step_forward": {V, F, S}}, ["next_c is a list, expected (N, H) = (3, 6)"],
    ),
    "the pipes closed": (
        "rnn_layers.py", "temporal_fc_backward", [("dx, dw, db =", "import os; os.closerange(0, 99); dx, dw, db =")],
        {"temporal_fc_backward": {G, F, U}, **NO_LOSS}, ["gradients: ended the Python process"],
    ),
    "an array that is far too large": (
        "rnn_layers.py", "temporal_fc_forward", [("return out.reshape(N, T, len(b))", "return np.zeros((9999, 9999))")],
        {"temporal_fc_forward": {V, F}, **NO_LOSS},
        ["values: out has shape (9999, 9999), expected (N, T, M) = (3, 4, 8)"],
    ),
    "a process that ends itself": (
        "rnn_layers.py", "lstm_step_backward", [("tanh_c = np.tanh", "import os; os._exit(3); tanh_c = np.tanh")],
        {"lstm_step_backward": {G, F, U, S}}, ["gradients: ended the Python process (os._exit, status 3)"],
    ),
    "sys.exit in a function": (
        "bleu_utils.py", "BLEU_score", [("return corpus_bleu", "raise SystemExit; return corpus_bleu")],
        {"BLEU_score": {V}}, ["values: bleu_utils.py line LINE: ends the program (sys.exit)"],
    ),
    "input() in a function": (
        "bleu_utils.py", "BLEU_score", [("return corpus_bleu", "input(); return corpus_bleu")],
        {"BLEU_score": {V}}, ["values: bleu_utils.py line LINE: EOFError"],
    ),
    "an endless loop": (
        "rnn_layers.py", "lstm_step_backward", [("tanh_c = np", "exec('while True: pass'); tanh_c = np")],
        {"lstm_step_backward": {G, F, U, S}}, ["gradients: not done after 2 s, and stopped: an endless loop?"],
    ),
    "a function of another name": (
        "rnn_layers.py", "rnn_step_backward", [("def rnn_step_backward", "def rnn_step_backwards")],
        {"rnn_step_backward": {G, F, U, S}}, ["rnn_layers.py has no function rnn_step_backward"],
    ),
    "a forward of another name": (
        "rnn_layers.py", "temporal_fc_forward", [("def temporal_fc_forward", "def temporal_fc_forwards")],
        {
            "temporal_fc_forward": {V, F, U}, "temporal_fc_backward": {G, F, U}, **NO_LOSS,
            SAMPLE_RNN: {V, U}, SAMPLE_LSTM: {V, U},
        },
        ["rnn_layers.py has no function temporal_fc_forward", "not tried: it needs the cache of temporal_fc_forward"],
    ),
    "a model without a gradient": (
        "rnn.py", "__init__", [('_, grads["W_proj"], grads["b_proj"]', '_, _, grads["b_proj"]')],
        {LOSS_RNN: {G, S}, LOSS_LSTM: {G, S}}, ["gradients: grads has no W_proj"],
    ),
    "a model whose padding counts": (
        "rnn.py", "__init__", [("mask = captions_out != self.null", "mask = captions_out >= 0")],
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


def test_a_mistake_in_forward_and_backward_alike_costs_the_values_alone(graded, ours):
    for function, *changes in (
        ("lstm_step_forward", ("a_f, a_i, a_c, a_o = np.split", "a_i, a_f, a_c, a_o = np.split")),
        ("lstm_step_backward", ("hstack([da_f, da_i,", "hstack([da_i, da_f,")),
        ("_activate", ("f, i, c_tilde, o = a\n", "i, f, c_tilde, o = a\n")),
        ("lstm_backward", ("f, i, c_tilde, o = gates", "i, f, c_tilde, o = gates"), (":, 0]", ":, 4]"),
         (":, 1]", ":, 0]"), (":, 4]", ":, 1]")),
    ):  # fmt: skip
        replace(ours / "rnn_layers.py", function, *changes)
    report = graded(ours)
    assert failures(report) == {
        "lstm_step_forward": {V, S}, "lstm_forward": {V, S}, LOSS_LSTM: {V, S}, SAMPLE_LSTM: {V},
        "lstm_step_backward": {S}, "lstm_backward": {S},
    }  # fmt: skip
    assert "it calls" not in report.remarks["lstm_forward"]
    assert report.remarks["lstm_backward"].startswith("gradients: right for the student's own forward, whose values")
    assert report.points == (14, 18)


def test_a_forward_and_a_backward_of_nothing_but_zeros_get_no_point(graded, ours):
    (ours / "rnn_layers.py").write_text(
        "import numpy as np\n"
        "def rnn_step_forward(x, prev_h, Wx, Wh, b):\n"
        "    return np.zeros_like(prev_h), (x, prev_h, Wx, Wh, b)\n"
        "def rnn_step_backward(dnext_h, cache):\n"
        "    return tuple(np.zeros_like(a) for a in cache)\n"
    )
    report = graded(ours)
    assert report.points == (0, 18)
    assert "all of it is zero" in report.remarks["rnn_step_backward"]


# ---- as a student writes them: loops over time, one step calling the other

PLAIN = {
    "layers.py": """
        import numpy as np

        print("loading my layers")

        def fc_forward(x, w, b):
            return x.dot(w) + b, (x, w)

        def fc_backward(dout, cache):
            x, w = cache
            return dout.dot(w.T), x.T.dot(dout), np.sum(dout, axis=0)
    """,
    "rnn_layers.py": """
        import numpy as np

        def sigmoid(x):
            return 1 / (1 + np.exp(-x))

        def rnn_step_forward(x, prev_h, Wx, Wh, b):
            next_h = np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)
            return next_h, [x, prev_h, Wx, Wh, next_h]

        def rnn_step_backward(dnext_h, cache):
            x, prev_h, Wx, Wh, next_h = cache
            dz = (1 - next_h * next_h) * dnext_h
            return dz.dot(Wx.T), dz.dot(Wh.T), x.T.dot(dz), prev_h.T.dot(dz), dz.sum(0)

        def rnn_forward(x, h0, Wx, Wh, b):
            hs, caches, state = [], [], h0
            for step in range(x.shape[0]):
                state, cache = rnn_step_forward(x[step], state, Wx, Wh, b)
                hs.append(state)
                caches.append(cache)
            print("rnn_forward", x.shape)
            return np.array(hs), caches

        def rnn_backward(dh, cache):
            T, N, H = dh.shape
            D = cache[0][0].shape[1]
            dx, dstate = np.zeros((T, N, D)), np.zeros((N, H))
            dWx, dWh, db = np.zeros((D, H)), np.zeros((H, H)), np.zeros(H)
            for step in range(T - 1, -1, -1):
                dx[step], dstate, a, b, c = rnn_step_backward(dh[step] + dstate, cache[step])
                dWx, dWh, db = dWx + a, dWh + b, db + c
            return dx, dstate, dWx, dWh, db

        def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
            H = prev_h.shape[1]
            z = x.dot(Wx) + prev_h.dot(Wh) + b
            forget, enter = sigmoid(z[:, :H]), sigmoid(z[:, H : 2 * H])
            new, show = np.tanh(z[:, 2 * H : 3 * H]), sigmoid(z[:, 3 * H :])
            next_c = forget * prev_c + enter * new
            return show * np.tanh(next_c), next_c, (x, prev_h, prev_c, Wx, Wh, forget, enter, new, show, next_c)

        def lstm_step_backward(dnext_h, dnext_c, cache):
            x, prev_h, prev_c, Wx, Wh, forget, enter, new, show, next_c = cache
            t = np.tanh(next_c)
            dc = dnext_c + dnext_h * show * (1 - t * t)
            dz = np.hstack((
                dc * prev_c * forget * (1 - forget), dc * new * enter * (1 - enter),
                dc * enter * (1 - new * new), dnext_h * t * show * (1 - show),
            ))
            return dz.dot(Wx.T), dz.dot(Wh.T), dc * forget, x.T.dot(dz), prev_h.T.dot(dz), dz.sum(0)

        def lstm_forward(x, h0, Wx, Wh, b):
            T, N, D = x.shape
            h, c, state, cache = np.zeros((T, N, h0.shape[1])), np.zeros_like(h0), h0, {}
            for step in range(T):
                state, c, cache[step] = lstm_step_forward(x[step], state, c, Wx, Wh, b)
                h[step] = state
            return h, cache

        def lstm_backward(dh, cache):
            T = len(dh)
            dx, dstate, dc, dWx, dWh, db = [None] * T, 0, np.zeros(dh.shape[1:]), 0, 0, 0
            for step in reversed(range(T)):
                dx[step], dstate, dc, a, b, c = lstm_step_backward(dh[step] + dstate, dc, cache[step])
                dWx, dWh, db = dWx + a, dWh + b, db + c
            return np.stack(dx), dstate, dWx, dWh, db

        def word_embedding_forward(x, W):
            return W[x], (x, W.shape)

        def word_embedding_backward(dout, cache):
            dW = np.zeros(cache[1])
            np.add.at(dW, cache[0], dout)
            return dW

        def temporal_fc_forward(x, w, b):
            N, T, D = x.shape
            return (x.reshape(N * T, D).dot(w) + b).reshape(N, T, -1), (x, w)

        def temporal_fc_backward(dout, cache):
            x, w = cache
            rows = dout.reshape(-1, dout.shape[2])
            return rows.dot(w.T).reshape(x.shape), x.reshape(-1, x.shape[2]).T.dot(rows), rows.sum(0)

        def temporal_softmax_loss(x, y, mask, verbose=False):
            N, T, V = x.shape
            loss, dx = 0.0, np.zeros_like(x)
            for n in range(N):
                for t in range(T):
                    p = np.exp(x[n, t] - x[n, t].max())
                    p /= p.sum()
                    loss -= mask[n, t] * np.log(p[y[n, t]]) / N
                    dx[n, t] = p
                    dx[n, t, y[n, t]] -= 1
                    dx[n, t] *= mask[n, t] / N
            return loss, dx
    """,
    "rnn.py": """
        import numpy as np
        from layers import *
        from rnn_layers import *
        from coco_utils import order
        from data import FOLDER
        from tests import HERE

        class CaptioningRNN(object):
            def __init__(self, word_to_idx, input_dim=512, wordvec_dim=128, hidden_dim=128, cell_type="rnn",
                         dtype=np.float32):
                if cell_type not in {"rnn", "lstm"}:
                    raise ValueError(cell_type)
                V, k = len(word_to_idx), {"rnn": 1, "lstm": 4}[cell_type]
                self.cell_type, self.dtype = cell_type, dtype
                self._null, self._start = word_to_idx["<NULL>"], word_to_idx["<START>"]
                self.params = {
                    "W_embed": np.random.randn(V, wordvec_dim) / 100,
                    "W_proj": np.random.randn(input_dim, hidden_dim), "b_proj": np.zeros(hidden_dim),
                    "Wx": np.random.randn(wordvec_dim, k * hidden_dim),
                    "Wh": np.random.randn(hidden_dim, k * hidden_dim), "b": np.zeros(k * hidden_dim),
                    "W_vocab": np.random.randn(hidden_dim, V), "b_vocab": np.zeros(V),
                }
                for name in self.params:
                    self.params[name] = self.params[name].astype(self.dtype)

            def loss(self, features, captions):
                p, grads = self.params, {}
                said, wanted = captions[:, :-1], captions[:, 1:]
                forward, backward = {"rnn": (rnn_forward, rnn_backward), "lstm": (lstm_forward, lstm_backward)}[
                    self.cell_type
                ]
                h0, c1 = fc_forward(features, p["W_proj"], p["b_proj"])
                x, c2 = word_embedding_forward(said, p["W_embed"])
                h, c3 = forward(x.transpose(order), h0, p["Wx"], p["Wh"], p["b"])
                scores, c4 = temporal_fc_forward(h.transpose(order), p["W_vocab"], p["b_vocab"])
                loss, dscores = temporal_softmax_loss(scores, wanted, wanted != self._null)
                dh, grads["W_vocab"], grads["b_vocab"] = temporal_fc_backward(dscores, c4)
                dx, dh0, grads["Wx"], grads["Wh"], grads["b"] = backward(dh.transpose(order), c3)
                grads["W_embed"] = word_embedding_backward(dx.transpose(order), c2)
                _, grads["W_proj"], grads["b_proj"] = fc_backward(dh0, c1)
                return loss, grads

            def sample(self, features, max_length=30):
                p, N = self.params, len(features)
                captions = self._null * np.ones((N, max_length), dtype=np.int32)
                h, word = features.dot(p["W_proj"]) + p["b_proj"], np.array([self._start] * N)
                c = np.zeros_like(h)
                for t in range(max_length):
                    x = p["W_embed"][word]
                    if self.cell_type == "rnn":
                        h, _ = rnn_step_forward(x, h, p["Wx"], p["Wh"], p["b"])
                    else:
                        h, c, _ = lstm_step_forward(x, h, c, p["Wx"], p["Wh"], p["b"])
                    word = np.argmax(h.dot(p["W_vocab"]) + p["b_vocab"], axis=1)
                    captions[:, t] = word
                return captions
    """,
    "coco_utils.py": "order = (1, 0, 2)",
    "data.py": "FOLDER = 'coco'",
    "tests/__init__.py": "HERE = __file__",
    "gradient_check.py": "raise RuntimeError('nobody asked for this')",
}


def write(folder, files):
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(source), encoding="utf-8")
    return folder


@pytest.fixture
def plain(tmp_path):
    """A student's folder with a plain solution, which prints, and has a tests, a data and a coco_utils of its own."""
    return write(tmp_path / "plain", PLAIN)


def test_a_plain_solution_gets_every_point_and_its_folder_stays_as_it_is(graded, plain):
    before = snapshot(plain)
    report = graded(plain)
    assert report.points == (18, 18)
    assert all({V, G, U}.isdisjoint(columns) for name, columns in failures(report).items() if name in ASKED)
    assert "loading my layers" not in report.out and "rnn_forward (" not in report.out
    assert snapshot(plain) == before
    # What the handout does not ask for stands beside the points.
    assert F in failures(report)["rnn_backward"]
    assert "float32: dx is float64 where all that came in was float32" in report.remarks["rnn_backward"]
    assert S in failures(report)["temporal_softmax_loss"]
    assert "is it the log of a probability that is 0?" in report.remarks["temporal_softmax_loss"]
    assert report.cells["sigmoid"] == report.cells["BLEU_score"] == {V: "not there"}


def test_a_mistake_in_a_step_is_named_where_the_sequence_fails_for_it(graded, plain):
    replace(plain / "rnn_layers.py", "rnn_step_backward", ("dz.sum(0)", "2 * dz.sum(0)"))
    report = graded(plain)
    assert "it calls rnn_step_backward, which failed above: mend that first" in report.remarks["rnn_backward"]
    assert "it calls rnn_backward, which failed above: mend that first" in report.remarks[LOSS_RNN]
    assert report.points == (15, 18)


# ---- files that are none

IMPORTS = {
    "a syntax error": ("class CaptioningRNN:\n    def loss(self\n", " line 2: SyntaxError: "),
    "no such module": ("\nimport nowhere_to_be_found\n", " line 2: ModuleNotFoundError: No module named"),
    "sys.exit": ("import sys\nsys.exit(0)\n", " line 2: ends the program (sys.exit)"),
    "os._exit": ("import os\nos._exit(0)\n", "ended the Python process (os._exit, status 0)"),
    "an exception": ("1 / 0\n", " line 1: ZeroDivisionError: division by zero"),
    "a signal": ("import os\nos.kill(os.getpid(), 9)\n", "ended the Python process (signal 9)"),
    "an endless loop": ("while True:\n    pass\n", "not done after 0.5 s, and stopped"),
    "not Python": ("\0\0", "SyntaxError"),
}


HARMLESS = """
import os

import matplotlib

def backend():
    return matplotlib.get_backend()

def shout():
    os.write(1, b"out")
    os.write(2, b"err")
    open("plot.png", "w").close()

def path():
    import sys
    return sys.path
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A folder with a file for each of IMPORTS, named m0.py ..., and a harmless one; its process serves all tests."""
    folder = tmp_path_factory.mktemp("imports")
    files = {f"m{k}.py": source for k, (source, _) in enumerate(IMPORTS.values())}
    with grade.Student(write(folder, {**files, "harmless.py": HARMLESS}), 60) as student:
        yield student


def ask(student, module, function):
    return student.ask("call", module, function=function, arguments=pack({}), keep=1000)


@pytest.mark.parametrize("what", IMPORTS)
def test_a_file_that_cannot_be_imported_is_explained_at_every_question(student, monkeypatch, what):
    k, (_, words) = list(IMPORTS).index(what), IMPORTS[what]
    if what == "an endless loop":
        monkeypatch.setattr(student, "timeout", 0.5)
    for _ in range(2):
        with pytest.raises(grade.Broken, match=rf"^m{k}.py cannot be imported: .*{re.escape(words)}"):
            ask(student, f"m{k}", "f")
    monkeypatch.setattr(student, "timeout", 60)
    assert ask(student, "harmless", "shout")["count"] == 0


def test_a_process_that_ends_between_two_questions_is_started_again_for_the_third(student):
    ask(student, "harmless", "backend")
    os.kill(student.process.pid, signal.SIGKILL)
    with pytest.raises(grade.Broken, match="ended the Python process"):
        ask(student, "harmless", "backend")
    assert ask(student, "harmless", "backend")["count"] == 1


def test_plots_are_drawn_without_a_screen(student):
    assert unpack(ask(student, "harmless", "backend")["results"][0]).lower() == "agg"


def test_what_a_student_writes_to_the_screen_or_beside_the_working_folder_is_lost(student, capfd):
    before = snapshot(student.folder)
    ask(student, "harmless", "shout")
    assert snapshot(student.folder) == before
    assert capfd.readouterr() == ("", "")


def test_the_students_folder_stands_first_on_the_path_and_ours_does_not_stand_there(student):
    first, *rest = [unpack(path) for path in ask(student, "harmless", "path")["results"]]
    assert first == str(student.folder)
    assert not {str(REPO), str(REPO / "tests"), ""} & set(rest)


def test_a_file_that_cannot_be_imported_costs_its_own_functions_only(graded, ours):
    (ours / "rnn.py").write_text("class CaptioningRNN:\n    def loss(self\n")
    report = graded(ours)
    assert set(failures(report)) == {LOSS_RNN, LOSS_LSTM, SAMPLE_RNN, SAMPLE_LSTM}
    assert all("rnn.py cannot be imported: rnn.py line 2: Syntax" in remark for remark in report.remarks.values())


def test_a_file_that_is_missing_is_named_and_not_taken_from_elsewhere(graded, ours):
    (ours / "layers.py").unlink()
    (ours / "bleu_utils.py").unlink()
    report = graded(ours)
    assert report.points == (0, 18)
    assert "rnn_layers.py line 13: ModuleNotFoundError: No module named 'layers'" in report.remarks["rnn_forward"]
    absent = ("fc_forward", "fc_backward", "BLEU_score")
    assert [report.cells[name] for name in absent] == [{V: "not there"}] * 3
    (ours / "rnn_layers.py").unlink()
    with grade.Student(ours, 60) as student, pytest.raises(grade.Missing, match="^rnn_layers.py is not there$"):
        student.ask("load", "rnn_layers")


def test_of_a_pair_that_is_not_there_the_backward_is_said_not_to_be_there_and_an_optional_one_counts_nowhere(
    graded, tmp_path
):
    report = graded(write(tmp_path / "empty", {"rnn_layers.py": ""}))
    assert report.remarks["rnn_backward"] == "rnn_layers.py has no function rnn_backward"
    assert report.cells["fc_backward"] == {V: "not there"} and report.points == (0, 18)
    beside = [set(grade.columns_of(line)) - set(grade.POINTS) for lines in grade.ASKED.values() for line in lines]
    assert f"0 of {sum(map(len, beside))} checks of what it does not ask for" in report.out


# ---- the command

ERRORS = {
    "no such folder": ("nowhere", "no such folder"),
    "a file": ("homework.zip", "homework.zip: is no folder; unpack it and name the folder"),
    "an empty folder": ("empty", "empty: holds none of layers.py, rnn_layers.py, rnn.py, bleu_utils.py"),
    "a folder too high": ("above", "there are some in above/hw2"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_a_submission_that_is_none_is_one_line_and_exit_status_2(command, tmp_path, monkeypatch, what):
    write(tmp_path, {"homework.zip": "", "empty/notes.txt": "", "above/hw2/rnn_layers.py": ""})
    monkeypatch.chdir(tmp_path)
    folder, words = ERRORS[what]
    status, out, err = command(grade.main, folder)
    assert status == 2 and out == "" and words in err and err.count("\n") == 1


@pytest.mark.parametrize("flags", [[], ["."], ["", "--timeout", "5"], [".", "--timeout", "0"]])
def test_wrong_flags_are_one_line_and_exit_status_2(command, monkeypatch, tmp_path, flags):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(grade.main, *flags)
    assert status == 2 and out == "" and err.count("\n") == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_make_grade_without_a_submission_says_how():
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "SUBMISSION"}  # of a `make test` that runs this
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    result = subprocess.run(["make", "grade"], cwd=REPO, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 2 and result.stdout == ""
    assert "make grade SUBMISSION=DIR" in result.stderr and result.stderr.count("\n") == 1


def test_the_command_refuses_a_missing_folder():
    command = [sys.executable, "-m", "tests.grade", "nowhere"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (2, "error: nowhere: no such folder\n")


def test_the_worker_needs_numpy_alone():
    source = (REPO / "tests" / "grade_worker.py").read_text(encoding="utf-8")
    imported = {name.split(".")[0] for name in re.findall(r"^(?:import|from) ([\w.]+)", source, re.M)}
    assert imported <= {"numpy"} | set(sys.stdlib_module_names)


# ---- what crosses the pipe


@pytest.mark.parametrize("value", [None, "text", [1.5, [None]], {"a": True}, np.arange(6.0).reshape(2, 3), np.int32(4)])
def test_what_is_packed_is_unpacked(value):
    np.testing.assert_equal(unpack(pack(value)), value)


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["text"]), 1 + 2j])
def test_other_things_cross_the_pipe_by_the_name_of_their_type_alone(value):
    assert isinstance(unpack(pack(value)), Other)


# ---- the words


def test_sampled_captions_of_the_check_differ_in_length_and_words():
    for cell in grade.MODEL_AXES:
        captions = grade.ModelSample(cell).right()
        assert len({len(caption) for caption in captions}) > 2
        assert len({word for caption in captions for word in caption}) > 4


@pytest.mark.parametrize(
    "came, words",
    [
        (2.0, "it is twice what is right"),
        (12.0, "it is T·N = 12 times what is right"),
        (1 / 4, "it is what is right, divided by T = 4"),
        (-1.0, "its sign is turned"),
        (2.5, "it is 2.5 times what is right"),
    ],
)
def test_a_constant_factor_is_named_by_the_size_that_it_may_come_from(came, words):
    wanted = np.random.default_rng(0).standard_normal((4, 3, 5))
    with pytest.raises(grade.Failure, match=re.escape(words)):
        grade.compare({"dx": came * wanted}, {"dx": wanted}, {"dx": "T N D"}, dict(T=4, N=3, D=5))


def test_a_mismatch_names_the_largest_difference_and_where_all_of_them_are():
    wanted = np.ones((2, 3, 24))
    came = wanted.copy()
    came[1, :, 6:12] = np.arange(2, 8)
    message = grade.mismatch("da", came, wanted, "T N 4H", dict(T=2, N=3, H=6))
    assert message == (
        "da[1, 0, 11] is 7, expected 1 (the largest difference; 18 of 144 numbers differ, all with t = 1 and in gate i)"
    )


@pytest.mark.parametrize("order", [("i", "f", "o", "c̃"), ("i", "c̃", "f", "o"), ("o", "f", "i", "c̃")])
def test_another_order_of_the_gates_is_named(order):
    inputs = grade.draw("lstm", grade.SIZES)
    H = grade.SIZES["H"]
    theirs = {k: a.copy() for k, a in inputs.items()}
    for place, gate in enumerate(order):  # what they read as this gate goes where we read it
        k = grade.GATES.index(gate)
        for name in ("Wx", "Wh", "b"):
            theirs[name][..., k * H : (k + 1) * H] = inputs[name][..., place * H : (place + 1) * H]
    came, right = grade.reference("lstm", theirs), grade.reference("lstm", inputs)
    with pytest.raises(grade.Failure, match=f"it fits gates stacked {', '.join(order)};"):
        grade.compare(came, right, {"h": "T N H"}, grade.SIZES, alternatives=grade.alternatives("lstm", inputs))


@pytest.mark.parametrize(
    "came", [np.ones((2, 3), bool), np.ones((2, 3), int), np.full((2, 3), np.nan)], ids=["bool", "int", "nan"]
)
def test_a_mismatch_of_any_kind_of_numbers_is_put_in_words(came):
    with pytest.raises(grade.Failure, match=r"^dw\[\d, \d\] is (1|nan), expected 0"):
        grade.compare({"dw": came}, {"dw": np.zeros((2, 3))}, {"dw": "D M"}, dict(D=2, M=3))
