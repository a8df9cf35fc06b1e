"""The vanilla RNN: `python -m pytest tests/gradients/test_rnn.py`."""

import torch

from rnn_layers import rnn_backward, rnn_forward, rnn_step_backward, rnn_step_forward
from tests.gradient_check import relative_error
from tests.gradients.layer_tests import RecurrentTests, SequenceTests, lin


def torch_step(x, prev_h, Wx, Wh, b):
    return torch.tanh(x @ Wx + prev_h @ Wh + b)


def torch_sequence(x, h0, Wx, Wh, b):
    # with biases, one layer, no dropout, training, one direction, time first
    return torch.rnn_tanh(x, h0[None], [Wx.T, Wh.T, b, 0 * b], True, 1, 0.0, True, False, False)[0]


class TestRNNStep(RecurrentTests):
    functions, in_torch, douts = (rnn_step_forward, rnn_step_backward), torch_step, ("dnext_h",)

    def inputs(self, r, T, N, D, H):
        return {"x": r((N, D)), "prev_h": r((N, H)), "Wx": r((D, H)), "Wh": r((H, H)), "b": r(H)}


class TestRNN(SequenceTests):
    functions, in_torch, step = (rnn_forward, rnn_backward), torch_sequence, TestRNNStep.functions

    def inputs(self, r, T, N, D, H):
        return {"x": r((T, N, D)), "h0": r((N, H)), "Wx": r((D, H)), "Wh": r((H, H)), "b": r(H)}


def test_rnn_step_forward_matches_published_values():
    next_h, _ = rnn_step_forward(
        lin(-0.1, 0.5, 5, 10), lin(-0.1, 0.5, 5, 8), lin(-0.2, 0.3, 10, 8), lin(-0.2, 0.3, 8, 8), lin(-0.3, 0.1, 8)
    )
    row0 = [-0.22463597, -0.17533181, -0.12513221, -0.07428362, -0.02304582, 0.02831334, 0.07952345, 0.13031722]
    row4 = [-0.00461288, 0.10858546, 0.21903615, 0.32414482, 0.42181666, 0.51059038, 0.58966751, 0.65885315]
    assert relative_error(next_h[0], row0) < 1e-7 and relative_error(next_h[4], row4) < 1e-7


def test_rnn_forward_matches_published_values():
    h, _ = rnn_forward(
        lin(-0.1, 0.5, 2, 3, 4), lin(-0.1, 0.5, 3, 5), lin(-0.2, 0.3, 4, 5), lin(-0.2, 0.3, 5, 5), lin(-0.3, 0.1, 5)
    )
    assert relative_error(h[0, 0], [-0.23374681, -0.14501505, -0.05388776, 0.03814605, 0.12953723]) < 1e-7
    assert relative_error(h[1, 0], [-0.19057771, -0.07178839, 0.04907294, 0.16851404, 0.28320339]) < 1e-7
