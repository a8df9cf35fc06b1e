"""The LSTM: `python -m pytest tests/gradients/test_lstm.py`."""

import numpy as np
import pytest
import torch

from rnn_layers import lstm_backward, lstm_forward, lstm_step_backward, lstm_step_forward
from tests.gradient_check import relative_error
from tests.gradients.layer_tests import RecurrentTests, SequenceTests, lin


def torch_step(x, prev_h, prev_c, Wx, Wh, b):
    f, i, c_tilde, o = (x @ Wx + prev_h @ Wh + b).chunk(4, dim=1)
    next_c = torch.sigmoid(f) * prev_c + torch.sigmoid(i) * torch.tanh(c_tilde)
    return torch.sigmoid(o) * torch.tanh(next_c), next_c


def torch_sequence(x, h0, Wx, Wh, b):
    weights = [torch.cat([w.chunk(4)[gate] for gate in (1, 0, 2, 3)]) for w in (Wx.T, Wh.T, b, 0 * b)]  # i, f, c~, o
    # with biases, one layer, no dropout, training, one direction, time first
    return torch.lstm(x, (h0[None], 0 * h0[None]), weights, True, 1, 0.0, True, False, False)[0]


def weights(r, D, H):
    return {"Wx": r((D, 4 * H)), "Wh": r((H, 4 * H)), "b": r(4 * H)}


class TestLSTMStep(RecurrentTests):
    functions, in_torch = (lstm_step_forward, lstm_step_backward), torch_step
    douts = ("dnext_h", "dnext_c")

    def inputs(self, r, T, N, D, H):
        return {"x": r((N, D)), "prev_h": r((N, H)), "prev_c": r((N, H)), **weights(r, D, H)}


class TestLSTM(SequenceTests):
    functions, in_torch, step = (lstm_forward, lstm_backward), torch_sequence, TestLSTMStep.functions
    states = 2

    def inputs(self, r, T, N, D, H):
        return {"x": r((T, N, D)), "h0": r((N, H)), **weights(r, D, H)}


@pytest.mark.parametrize("number", [0, np.float64(0.5)])
def test_lstm_step_accepts_a_number_as_prev_c(number):
    x, prev_h, prev_c, *weights = (a.astype(np.float32) for a in TestLSTMStep().make().values())
    *outs, cache = lstm_step_forward(x, prev_h, number, *weights)
    *wanted, wanted_cache = lstm_step_forward(x, prev_h, np.full_like(prev_c, number), *weights)
    outs += lstm_step_backward(prev_h, prev_c, cache)
    wanted += lstm_step_backward(prev_h, prev_c, wanted_cache)
    assert all(a.dtype == np.float32 and np.array_equal(a, w) for a, w in zip(outs, wanted, strict=True))


def test_lstm_step_forward_matches_published_values():
    next_h, next_c, _ = lstm_step_forward(
        lin(-0.1, 0.5, 3, 5), lin(-0.1, 0.5, 3, 4), lin(-0.8, 0.8, 3, 4),
        lin(-0.5, 0.3, 5, 16), lin(-0.6, 0.2, 4, 16), lin(-0.8, 0.6, 16),
    )  # fmt: skip
    assert relative_error(next_h[1], [-0.06578861, -0.02624557, 0.02564223, 0.0897345]) < 1e-7
    assert relative_error(next_c[0], [-0.23621572, -0.15684323, -0.0689127, 0.02702961]) < 1e-7


def test_lstm_forward_matches_published_values():
    h, _ = lstm_forward(
        lin(-0.1, 0.5, 2, 3, 4), lin(-0.1, 0.5, 3, 5), lin(-0.2, 0.3, 4, 20), lin(-0.2, 0.3, 5, 20), lin(-0.3, 0.1, 20)
    )
    assert relative_error(h[0, 1], [0.00824255, 0.01562256, 0.02335621, 0.03143392, 0.03984436]) < 1e-6


def test_the_width_of_Wx_must_be_four_times_H():
    with pytest.raises(ValueError, match=r"^Wx has shape \(5, 25\), expected \(D, 4H\) = \(5, 24\)$"):
        lstm_forward(**{**TestLSTM().make(), "Wx": np.zeros((5, 25))})
