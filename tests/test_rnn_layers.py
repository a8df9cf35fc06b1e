"""rnn_layers.py against numeric gradients, PyTorch, published values, its own steps and the formulas of WRITEUP.md."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import rnn_layers
from rnn_layers import (
    lstm_backward,
    lstm_forward,
    lstm_step_backward,
    lstm_step_forward,
    rnn_backward,
    rnn_forward,
    rnn_step_backward,
    rnn_step_forward,
    temporal_fc_forward,
    temporal_softmax_loss,
    word_embedding_backward,
    word_embedding_forward,
)
from tests.conftest import run_python
from tests.gradient_check import check_layer, check_loss, relative_error
from tests.test_layers import LAYOUTS, torch_gradients

pytestmark = pytest.mark.filterwarnings("error")  # numpy's too: an overflow or a NaN on the way fails the test


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- the layers: their inputs for given sizes, and the same function in PyTorch


def torch_rnn_step(x, prev_h, Wx, Wh, b):
    return torch.tanh(x @ Wx + prev_h @ Wh + b)


def torch_rnn(x, h0, Wx, Wh, b):
    h = [h0]
    for x_t in x:
        h.append(torch_rnn_step(x_t, h[-1], Wx, Wh, b))
    return torch.stack(h[1:])


def torch_lstm_step(x, prev_h, prev_c, Wx, Wh, b):
    f, i, c_tilde, o = (x @ Wx + prev_h @ Wh + b).chunk(4, dim=1)
    next_c = torch.sigmoid(f) * prev_c + torch.sigmoid(i) * torch.tanh(c_tilde)
    return torch.sigmoid(o) * torch.tanh(next_c), next_c


def torch_lstm(x, h0, Wx, Wh, b):
    h, c, hs = h0, torch.zeros_like(h0), []
    for x_t in x:
        h, c = torch_lstm_step(x_t, h, c, Wx, Wh, b)
        hs.append(h)
    return torch.stack(hs)


def weights(r, D, H, gates):
    return {"Wx": r((D, gates * H)), "Wh": r((H, gates * H)), "b": r(gates * H)}


INPUTS = {
    "rnn_step": lambda r, T, N, D, H: {"x": r((N, D)), "prev_h": r((N, H)), **weights(r, D, H, 1)},
    "rnn": lambda r, T, N, D, H: {"x": r((T, N, D)), "h0": r((N, H)), **weights(r, D, H, 1)},
    "lstm_step": lambda r, T, N, D, H: {
        "x": r((N, D)), "prev_h": r((N, H)), "prev_c": r((N, H)), **weights(r, D, H, 4)
    },
    "lstm": lambda r, T, N, D, H: {"x": r((T, N, D)), "h0": r((N, H)), **weights(r, D, H, 4)},
    "word_embedding": lambda r, T, N, D, H: {
        "x": np.random.default_rng(T * N).integers(0, H, (N, T)), "W": r((H, D))
    },
    "temporal_fc": lambda r, T, N, D, H: {"x": r((N, T, D)), "w": r((D, H)), "b": r(H)},
}  # fmt: skip
TORCH = {
    "rnn_step": torch_rnn_step,
    "rnn": torch_rnn,
    "lstm_step": torch_lstm_step,
    "lstm": torch_lstm,
    "word_embedding": lambda x, W: F.embedding(x, W),
    "temporal_fc": lambda x, w, b: x @ w + b,
}
SEQUENCES = ["rnn", "lstm"]
LAYERS = list(INPUTS)

each_layer = pytest.mark.parametrize("layer", LAYERS)


def pair(layer):
    return getattr(rnn_layers, f"{layer}_forward"), getattr(rnn_layers, f"{layer}_backward")


def make(layer, rng, T=4, N=3, D=5, H=6, dtype=np.float64):
    return INPUTS[layer](lambda shape: rng.standard_normal(shape).astype(dtype), T, N, D, H)


def run(layer, inputs, seed=0):
    """(outputs, gradients, douts) of a layer, the gradients of the outputs being random."""
    forward, backward = pair(layer)
    *outs, cache = forward(**inputs)
    r = np.random.default_rng(seed)
    douts = [r.standard_normal(out.shape).astype(out.dtype) for out in outs]
    gradients = backward(*douts, cache)
    return outs, list(gradients) if isinstance(gradients, tuple) else [gradients], douts


# ---- gradients

SIZES = [(4, 3, 5, 6), (1, 3, 5, 6), (4, 1, 5, 6), (4, 3, 1, 6), (4, 3, 5, 1), (1, 1, 1, 1), (7, 2, 3, 9)]


@each_layer
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_are_the_numeric_ones(rng, layer, sizes):
    errors = check_layer(*pair(layer), **make(layer, rng, *sizes))
    assert max(errors.values()) < (1e-6 if layer in SEQUENCES else 1e-7), errors


@each_layer
@pytest.mark.parametrize("sizes", [*SIZES, (12, 10, 20, 30)], ids=str)
def test_outputs_and_gradients_are_those_of_autograd(rng, layer, sizes):
    inputs = make(layer, rng, *sizes)
    outs, gradients, douts = run(layer, inputs)
    wanted_outs, wanted = torch_gradients(TORCH[layer], inputs, douts)
    for out, wanted_out in zip(outs, wanted_outs, strict=True):
        assert relative_error(out, wanted_out) < 1e-11
    for gradient, (name, wanted_gradient) in zip(gradients, wanted.items(), strict=True):
        assert relative_error(gradient, wanted_gradient) < 1e-11, name


def assert_equals_torch_nn(cell, our, x, h0, Wx, Wh, b, reorder):
    """`our` forward and backward against a torch.nn layer, its parameters set from ours (rows for our columns)."""
    T, N, D = x.shape
    layer = cell(D, h0.shape[1]).double()
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor(reorder(Wx).T.copy()))
        layer.weight_hh_l0.copy_(torch.tensor(reorder(Wh).T.copy()))
        layer.bias_ih_l0.copy_(torch.tensor(reorder(b)))
        layer.bias_hh_l0.zero_()
    tx, th0 = torch.tensor(x, requires_grad=True), torch.tensor(h0[None], requires_grad=True)
    th, _ = layer(tx, (th0, torch.zeros_like(th0)) if cell is torch.nn.LSTM else th0)
    dh = np.random.default_rng(5).standard_normal(th.shape)
    th.backward(torch.tensor(dh))

    h, cache = our[0](x, h0, Wx, Wh, b)
    dx, dh0, dWx, dWh, db = our[1](dh, cache)
    for ours, theirs in [
        (h, th.detach()),
        (dx, tx.grad),
        (dh0, th0.grad[0]),
        (reorder(dWx).T, layer.weight_ih_l0.grad),
        (reorder(dWh).T, layer.weight_hh_l0.grad),
        (reorder(db), layer.bias_ih_l0.grad),
    ]:
        assert relative_error(ours, theirs.numpy()) < 1e-11


def test_rnn_is_torch_nn_RNN(rng):
    assert_equals_torch_nn(torch.nn.RNN, pair("rnn"), *make("rnn", rng, 9, 4, 5, 7).values(), lambda a: a)


def test_lstm_is_torch_nn_LSTM_with_its_gates_in_the_order_i_f_c_o(rng):
    def reorder(a):
        f, i, c_tilde, o = np.split(a, 4, axis=-1)
        return np.concatenate([i, f, c_tilde, o], axis=-1)

    assert_equals_torch_nn(torch.nn.LSTM, pair("lstm"), *make("lstm", rng, 9, 4, 5, 7).values(), reorder)


@pytest.mark.parametrize("layer", SEQUENCES)
@pytest.mark.parametrize("size", [8, 9, 16, 23, 40])
def test_float32_gradients_are_the_float64_ones_to_rounding(rng, layer, size):
    inputs = make(layer, rng, 6, 5, size, size)
    inputs = {name: a / math.sqrt(size) for name, a in inputs.items()}
    _, wanted, _ = run(layer, inputs)
    outs, gradients, _ = run(layer, {name: a.astype(np.float32) for name, a in inputs.items()})
    assert all(a.dtype == np.float32 for a in [*outs, *gradients])
    assert all(relative_error(a, w) < 1e-5 for a, w in zip(gradients, wanted, strict=True))


# ---- a sequence is its steps


def test_rnn_equals_its_steps(rng):
    x, h0, Wx, Wh, b = make("rnn", rng).values()
    h, cache = rnn_forward(x, h0, Wx, Wh, b)
    steps, state = [], h0
    for t in range(len(x)):
        state, step = rnn_step_forward(x[t], state, Wx, Wh, b)
        assert relative_error(h[t], state) < 1e-13
        steps.append(step)
    dh = rng.standard_normal(h.shape)
    gradients, dstate, sums = rnn_backward(dh, cache), np.zeros_like(h0), [0, 0, 0]
    for t in reversed(range(len(x))):
        dx, dstate, *dweights = rnn_step_backward(dh[t] + dstate, steps[t])
        assert relative_error(gradients[0][t], dx) < 1e-13
        sums = [total + d for total, d in zip(sums, dweights, strict=True)]
    assert all(relative_error(a, w) < 1e-13 for a, w in zip(gradients[1:], [dstate, *sums], strict=True))


def test_lstm_equals_its_steps(rng):
    x, h0, Wx, Wh, b = make("lstm", rng).values()
    h, cache = lstm_forward(x, h0, Wx, Wh, b)
    steps, state, c = [], h0, np.zeros_like(h0)
    for t in range(len(x)):
        state, c, step = lstm_step_forward(x[t], state, c, Wx, Wh, b)
        assert relative_error(h[t], state) < 1e-13
        steps.append(step)
    dh = rng.standard_normal(h.shape)
    gradients, dstate, dc, sums = lstm_backward(dh, cache), np.zeros_like(h0), np.zeros_like(h0), [0, 0, 0]
    for t in reversed(range(len(x))):
        dx, dstate, dc, *dweights = lstm_step_backward(dh[t] + dstate, dc, steps[t])
        assert relative_error(gradients[0][t], dx) < 1e-13
        sums = [total + d for total, d in zip(sums, dweights, strict=True)]
    assert all(relative_error(a, w) < 1e-13 for a, w in zip(gradients[1:], [dstate, *sums], strict=True))


# ---- arrays of every kind


@each_layer
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_and_no_input_changes_by_a_bit(rng, layer, layout):
    inputs = make(layer, rng)
    wanted_outs, wanted, douts = run(layer, inputs)
    laid_out = {name: LAYOUTS[layout](a) for name, a in inputs.items()}
    laid_out_douts = [LAYOUTS[layout](d) for d in douts]
    forward, backward = pair(layer)
    *outs, cache = forward(**laid_out)
    gradients = backward(*laid_out_douts, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for a, w in zip([*outs, *gradients], [*wanted_outs, *wanted], strict=True):
        assert relative_error(a, w) < 1e-13
    for a, original in zip([*laid_out.values(), *laid_out_douts], [*inputs.values(), *douts], strict=True):
        assert a.tobytes() == original.tobytes()


@each_layer
def test_a_dout_of_one_broadcast_number_is_accepted(rng, layer):
    forward, backward = pair(layer)
    *outs, cache = forward(**make(layer, rng))
    ones = backward(*[np.ones(out.shape) for out in outs], cache)
    broadcast = backward(*[np.broadcast_to(1.0, out.shape) for out in outs], cache)
    assert all(np.array_equal(a, b) for a, b in zip(ones, broadcast, strict=True))


@each_layer
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_stays(rng, layer, dtype):
    outs, gradients, _ = run(layer, make(layer, rng, dtype=dtype))
    assert all(a.dtype == dtype for a in [*outs, *gradients])


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "word_embedding"])  # it looks its own up
def test_integers_are_computed_in_float64(rng, layer):
    inputs = {name: np.round(a).astype(np.int64) for name, a in make(layer, rng).items()}
    outs, gradients, _ = run(layer, inputs)
    wanted_outs, wanted, _ = run(layer, {name: a.astype(float) for name, a in inputs.items()})
    for a, w in zip([*outs, *gradients], [*wanted_outs, *wanted], strict=True):
        assert a.dtype == np.float64 and relative_error(a, w) < 1e-13


@pytest.mark.parametrize("name, gates", [("rnn", 1), ("lstm", 4)])
def test_small_integers_give_what_the_same_numbers_in_float64_give(name, gates):
    arrays = [
        np.full(shape, 16, np.uint8) for shape in ((2, 1, 2), (1, 3), (2, 3 * gates), (3, 3 * gates), (3 * gates,))
    ]
    forward = getattr(rnn_layers, f"{name}_forward")
    assert np.array_equal(forward(*arrays)[0], forward(*(a.astype(float) for a in arrays))[0])


@each_layer
@pytest.mark.parametrize("T, N", [(0, 3), (4, 0), (0, 0)])
def test_no_time_steps_or_no_examples_give_empty_outputs_and_zero_weight_gradients(rng, layer, T, N):
    inputs = make(layer, rng, T=T, N=N)
    outs, gradients, _ = run(layer, inputs)
    floats = [a for a in inputs.values() if a.dtype.kind == "f"]
    assert [g.shape for g in gradients] == [a.shape for a in floats]
    if layer in SEQUENCES:
        assert outs[0].shape == (T, N, 6)
    if N == 0 or "step" not in layer:
        assert not any(g.any() for g in gradients)


# ---- caches


@each_layer
def test_a_backward_called_twice_gives_the_same_bits(rng, layer):
    forward, backward = pair(layer)
    *outs, cache = forward(**make(layer, rng))
    douts = [rng.standard_normal(out.shape) for out in outs]
    first = [np.copy(g) for g in backward(*douts, cache)]
    backward(*[-d for d in douts], cache)
    assert all(np.array_equal(a, b) for a, b in zip(first, backward(*douts, cache), strict=True))


@each_layer
def test_two_forwards_do_not_disturb_each_other(rng, layer):
    inputs, others = make(layer, rng), make(layer, rng)
    wanted_outs, wanted, douts = run(layer, inputs)
    forward, backward = pair(layer)
    *outs, cache = forward(**inputs)
    *_, other_cache = forward(**others)
    backward(*douts, other_cache)
    gradients = backward(*douts, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for a, w in zip([*outs, *gradients], [*wanted_outs, *wanted], strict=True):
        assert np.array_equal(a, w)


@each_layer
def test_nothing_returned_shares_memory_with_the_inputs(rng, layer):
    inputs = make(layer, rng)
    outs, gradients, douts = run(layer, inputs)
    for a in [*outs, *gradients]:
        assert not any(np.shares_memory(a, b) for b in [*inputs.values(), *douts])


# ---- stable


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e4, -1e4])
@pytest.mark.parametrize("layer", ["rnn_step", "rnn", "lstm_step", "lstm"])
def test_activations_at_1e4_give_no_warning_and_no_nan(rng, layer, scale, dtype):
    inputs = make(layer, rng, dtype=dtype)
    inputs["b"] = (scale * np.sign(inputs["b"])).astype(dtype)
    for b in (inputs["b"], np.full_like(inputs["b"], scale)):
        outs, gradients, _ = run(layer, {**inputs, "b": b})
        assert all(np.isfinite(a).all() for a in [*outs, *gradients])


def test_saturated_gates_are_exactly_0_and_1():
    H = 3
    b = np.repeat([-1e4, 1e4, -1e4, 1e4], H)  # forget all, let all in, c̃ = -1, show all
    h, _ = lstm_forward(np.ones((2, 1, 2)), np.zeros((1, H)), np.zeros((2, 4 * H)), np.zeros((H, 4 * H)), b)
    np.testing.assert_array_equal(h, np.full((2, 1, H), np.tanh(-1.0)))


# ---- published values


def lin(a, b, *shape):
    return np.linspace(a, b, num=math.prod(shape)).reshape(shape)


def test_published_values_of_rnn_step_forward():
    next_h, _ = rnn_step_forward(
        lin(-0.1, 0.5, 5, 10), lin(-0.1, 0.5, 5, 8), lin(-0.2, 0.3, 10, 8), lin(-0.2, 0.3, 8, 8), lin(-0.3, 0.1, 8)
    )
    row0 = [-0.22463597, -0.17533181, -0.12513221, -0.07428362, -0.02304582, 0.02831334, 0.07952345, 0.13031722]
    row4 = [-0.00461288, 0.10858546, 0.21903615, 0.32414482, 0.42181666, 0.51059038, 0.58966751, 0.65885315]
    assert relative_error(next_h[0], row0) < 1e-7 and relative_error(next_h[4], row4) < 1e-7


def test_published_values_of_rnn_forward():
    h, _ = rnn_forward(
        lin(-0.1, 0.5, 2, 3, 4), lin(-0.1, 0.5, 3, 5), lin(-0.2, 0.3, 4, 5), lin(-0.2, 0.3, 5, 5), lin(-0.3, 0.1, 5)
    )
    assert relative_error(h[0, 0], [-0.23374681, -0.14501505, -0.05388776, 0.03814605, 0.12953723]) < 1e-7
    assert relative_error(h[1, 0], [-0.19057771, -0.07178839, 0.04907294, 0.16851404, 0.28320339]) < 1e-7


def test_published_values_of_lstm_step_forward():
    next_h, next_c, _ = lstm_step_forward(
        lin(-0.1, 0.5, 3, 5), lin(-0.1, 0.5, 3, 4), lin(-0.8, 0.8, 3, 4),
        lin(-0.5, 0.3, 5, 16), lin(-0.6, 0.2, 4, 16), lin(-0.8, 0.6, 16),
    )  # fmt: skip
    assert relative_error(next_h[1], [-0.06578861, -0.02624557, 0.02564223, 0.0897345]) < 1e-7
    assert relative_error(next_c[0], [-0.23621572, -0.15684323, -0.0689127, 0.02702961]) < 1e-7


def test_published_values_of_lstm_forward():
    h, _ = lstm_forward(
        lin(-0.1, 0.5, 2, 3, 4), lin(-0.1, 0.5, 3, 5), lin(-0.2, 0.3, 4, 20), lin(-0.2, 0.3, 5, 20), lin(-0.3, 0.1, 20)
    )
    assert relative_error(h[0, 1], [0.00824255, 0.01562256, 0.02335621, 0.03143392, 0.03984436]) < 1e-6


def test_published_values_of_temporal_fc_forward():
    out, _ = temporal_fc_forward(lin(-0.1, 0.5, 3, 2, 5), lin(-0.1, 0.5, 5, 4), lin(-0.3, 0.1, 4))
    assert relative_error(out[0, 0], [-0.31860254, -0.19452511, -0.07044767, 0.05362976]) < 1e-7


def test_temporal_softmax_loss_of_scores_near_zero_is_log_V_for_each_element_of_the_mask(rng):
    N, T, V = 10, 6, 8
    mask = rng.random((N, T)) < 0.5
    loss, _ = temporal_softmax_loss(0.001 * rng.standard_normal((N, T, V)), rng.integers(0, V, (N, T)), mask)
    assert loss == pytest.approx(mask.sum() / N * math.log(V), rel=1e-3)


# ---- word embedding


def test_word_embedding_looks_rows_up():
    W = np.arange(12.0).reshape(4, 3)
    out, _ = word_embedding_forward(np.array([[3, 0], [0, 2]]), W)
    np.testing.assert_array_equal(out, [[W[3], W[0]], [W[0], W[2]]])


def test_word_embedding_gradient_adds_up_over_repeated_words(rng):
    x, dout = np.array([[1, 1, 5], [5, 1, 0]]), rng.standard_normal((2, 3, 4))
    _, cache = word_embedding_forward(x, np.zeros((7, 4)))
    wanted = np.zeros((7, 4))
    for n in range(2):
        for t in range(3):
            wanted[x[n, t]] += dout[n, t]
    assert relative_error(word_embedding_backward(dout, cache), wanted) < 1e-15


@pytest.mark.parametrize("word", [-1, -7, 7, 1000])
def test_a_word_outside_the_vocabulary_is_named(word):
    x = np.zeros((2, 3), int)
    x[1, 2] = word
    with pytest.raises(IndexError, match=rf"x\[1, 2\] is {word}, outside 0 \.\.\. 6"):
        word_embedding_forward(x, np.zeros((7, 4)))
    with pytest.raises(IndexError, match=rf"y\[1, 2\] is {word}, outside 0 \.\.\. 6"):
        temporal_softmax_loss(np.zeros((2, 3, 7)), x, np.ones((2, 3), bool))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_words_may_be_integers_of_any_kind(dtype):
    out, cache = word_embedding_forward(np.array([[0, 2]], dtype), np.eye(3))
    np.testing.assert_array_equal(out, [[[1, 0, 0], [0, 0, 1]]])
    np.testing.assert_array_equal(word_embedding_backward(np.ones((1, 2, 3)), cache), [[1] * 3, [0] * 3, [1] * 3])


@pytest.mark.parametrize("dtype", [np.float64, bool])
def test_words_that_are_no_integers_are_refused(dtype):
    with pytest.raises(TypeError, match="x has dtype"):
        word_embedding_forward(np.zeros((2, 3), dtype), np.zeros((7, 4)))


# ---- temporal softmax loss


@pytest.mark.parametrize("N, T, V", [(1, 1, 1), (3, 4, 5), (1, 6, 2), (5, 1, 9)])
def test_temporal_softmax_loss_gradient(rng, N, T, V):
    x, y, mask = 3 * rng.standard_normal((N, T, V)), rng.integers(0, V, (N, T)), rng.random((N, T)) < 0.6
    assert check_loss(temporal_softmax_loss, x, y, mask) < 1e-7

    def torch_loss(x, y, mask):
        return (F.cross_entropy(x.flatten(0, 1), y.flatten(), reduction="none") * mask.flatten()).sum() / N

    [loss], wanted = torch_gradients(torch_loss, {"x": x, "y": y, "mask": mask}, [np.array(1.0)])
    got, dx = temporal_softmax_loss(x, y, mask)
    assert relative_error(got, loss) < 1e-11 and relative_error(dx, wanted["x"]) < 1e-11
    assert not dx[~mask].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_temporal_softmax_loss_is_stable_keeps_the_dtype_and_changes_nothing(rng, dtype):
    x = (1e4 * np.sign(rng.standard_normal((3, 4, 5)))).astype(dtype)
    y, mask = rng.integers(0, 5, (3, 4)), rng.random((3, 4)) < 0.5
    for layout in LAYOUTS.values():
        arrays = layout(x), layout(y), layout(mask)
        loss, dx = temporal_softmax_loss(*arrays)
        assert loss.dtype == dx.dtype == dtype and np.isfinite(loss) and np.isfinite(dx).all()
        assert [a.tobytes() for a in arrays] == [a.tobytes() for a in (x, y, mask)]


def test_temporal_softmax_loss_takes_a_mask_of_numbers(rng):
    x, y, mask = rng.standard_normal((3, 4, 5)), rng.integers(0, 5, (3, 4)), rng.random((3, 4)) < 0.5
    wanted = temporal_softmax_loss(x, y, mask)
    for dtype in (int, np.float32, float):
        loss, dx = temporal_softmax_loss(x, y, mask.astype(dtype))
        assert loss == wanted[0] and np.array_equal(dx, wanted[1])


def test_temporal_softmax_loss_of_nothing():
    loss, dx = temporal_softmax_loss(np.zeros((2, 0, 5)), np.zeros((2, 0), int), np.zeros((2, 0), bool))
    assert loss == 0 and dx.shape == (2, 0, 5)
    loss, dx = temporal_softmax_loss(np.ones((2, 3, 5)), np.zeros((2, 3), int), np.zeros((2, 3), bool))
    assert loss == 0 and not dx.any()
    with pytest.raises(ValueError, match="empty minibatch"):
        temporal_softmax_loss(np.zeros((0, 3, 5)), np.zeros((0, 3), int), np.zeros((0, 3), bool))


def test_temporal_softmax_loss_prints_only_when_verbose(capsys):
    arguments = np.zeros((2, 3, 5)), np.zeros((2, 3), int), np.ones((2, 3), bool)
    temporal_softmax_loss(*arguments)
    assert capsys.readouterr().out == ""
    temporal_softmax_loss(*arguments, verbose=True)
    assert "(2, 3, 5)" in capsys.readouterr().out


# ---- errors


@each_layer
def test_every_argument_of_a_wrong_shape_is_named(rng, layer):
    forward, _ = pair(layer)
    inputs = make(layer, rng)
    for name, a in inputs.items():
        with pytest.raises(ValueError, match=r"^\w+ has shape \(.*\), expected \(.*\)"):
            forward(**{**inputs, name: a[0]})
        with pytest.raises(ValueError, match=rf"^{name} has shape \({a.ndim * '1, ?'}1,?\), expected"):
            forward(**{**inputs, name: np.ones((1,) * (a.ndim + 1), a.dtype)})
    for name in list(inputs)[1:]:  # the first one says what the others have to be
        a = inputs[name]
        for axis in range(a.ndim):
            if (layer, name, axis) in [("temporal_fc", "w", 1)] or layer == "word_embedding":
                continue  # a size that nothing before it fixes
            wrong = np.repeat(a, 2, axis=axis)
            if name in ("prev_h", "h0") and axis == 1:
                continue  # H: the weights are then what does not fit
            with pytest.raises(
                ValueError, match=rf"^{name} has shape \({', '.join(map(str, wrong.shape))},?\), expected"
            ):
                forward(**{**inputs, name: wrong})


@each_layer
def test_every_dout_of_a_wrong_shape_is_named(rng, layer):
    forward, backward = pair(layer)
    *outs, cache = forward(**make(layer, rng))
    names = {"rnn_step": ["dnext_h"], "lstm_step": ["dnext_h", "dnext_c"], "rnn": ["dh"], "lstm": ["dh"]}
    for k, name in enumerate(names.get(layer, ["dout"])):
        for wrong in (outs[k][:-1], outs[k][..., :-1], outs[k][None]):
            with pytest.raises(
                ValueError, match=rf"^{name} has shape .* expected .* = \({', '.join(map(str, outs[k].shape))}\)"
            ):
                backward(*[wrong if j == k else out for j, out in enumerate(outs)], cache)


def test_the_message_says_what_came_and_what_was_expected(rng):
    inputs = make("lstm", rng)
    with pytest.raises(ValueError, match=r"^Wx has shape \(5, 12\), expected \(D, 4H\) = \(5, 24\)$"):
        lstm_forward(**{**inputs, "Wx": np.zeros((5, 12))})


@pytest.mark.parametrize("layer", ["lstm_step", "lstm"])
@pytest.mark.parametrize("name", ["Wx", "Wh", "b"])
def test_a_width_that_is_no_multiple_of_four_is_a_wrong_shape(rng, layer, name):
    inputs = make(layer, rng)
    wider = np.concatenate([inputs[name], inputs[name][..., :1]], axis=-1)
    with pytest.raises(ValueError, match=rf"^{name} has shape .*25,?\), expected .*24\)$"):
        pair(layer)[0](**{**inputs, name: wider})


@pytest.mark.parametrize("name, shape", [("y", (2, 4)), ("mask", (2, 4)), ("y", (6,)), ("mask", (3, 2))])
def test_temporal_softmax_loss_names_a_wrong_shape(name, shape):
    arguments = {"x": np.zeros((2, 3, 5)), "y": np.zeros((2, 3), int), "mask": np.ones((2, 3), bool)}
    with pytest.raises(ValueError, match=rf"^{name} has shape"):
        temporal_softmax_loss(**{**arguments, name: np.zeros(shape, arguments[name].dtype)})


# ---- the formulas of WRITEUP.md, computed as they stand there: number by number


def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def sigma(a):
    return 1 / (1 + math.exp(-a))


def affine(x, prev_h, Wx, Wh, b):
    """a[n][k] = Σ_d x[n, d] Wx[d, k] + Σ_j prev_h[n, j] Wh[j, k] + b[k]."""
    N, K = len(x), len(b)
    return np.array([[dot(x[n], Wx[:, k]) + dot(prev_h[n], Wh[:, k]) + b[k] for k in range(K)] for n in range(N)])


def test_the_formulas_of_3_2(rng):
    N, D, H = 3, 4, 5
    x, prev_h, Wx, Wh, b = make("rnn_step", rng, N=N, D=D, H=H).values()
    next_h, cache = rnn_step_forward(x, prev_h, Wx, Wh, b)
    dnext_h = rng.standard_normal((N, H))
    a = affine(x, prev_h, Wx, Wh, b)
    da = np.array([[dnext_h[n, k] * (1 - math.tanh(a[n, k]) ** 2) for k in range(H)] for n in range(N)])
    dx = [[dot(da[n], Wx[d]) for d in range(D)] for n in range(N)]
    dprev_h = [[dot(da[n], Wh[j]) for j in range(H)] for n in range(N)]
    dWx = [[dot(x[:, d], da[:, k]) for k in range(H)] for d in range(D)]
    dWh = [[dot(prev_h[:, j], da[:, k]) for k in range(H)] for j in range(H)]
    db = [sum(da[n, k] for n in range(N)) for k in range(H)]
    for code, formula in zip(rnn_step_backward(dnext_h, cache), (dx, dprev_h, dWx, dWh, db), strict=True):
        assert relative_error(code, formula) < 1e-12


def test_the_formulas_of_3_4(rng):
    T, N, D, H = 4, 3, 2, 5
    x, h0, Wx, Wh, b = make("rnn", rng, T, N, D, H).values()
    h, cache = rnn_forward(x, h0, Wx, Wh, b)
    dh = rng.standard_normal((T, N, H))
    before = [h0, *h[:-1]]  # h_{t-1}
    da, dprev_h = np.zeros((T, N, H)), np.zeros((N, H))
    for t in reversed(range(T)):
        for n in range(N):
            for k in range(H):
                da[t, n, k] = (dh[t, n, k] + dprev_h[n, k]) * (1 - h[t, n, k] ** 2)
        dprev_h = np.array([[dot(da[t, n], Wh[j]) for j in range(H)] for n in range(N)])
    dx = [[[dot(da[t, n], Wx[d]) for d in range(D)] for n in range(N)] for t in range(T)]
    dWx = [[sum(x[t, n, d] * da[t, n, k] for t in range(T) for n in range(N)) for k in range(H)] for d in range(D)]
    dWh = [[sum(before[t][n, j] * da[t, n, k] for t in range(T) for n in range(N)) for k in range(H)] for j in range(H)]
    db = [sum(da[t, n, k] for t in range(T) for n in range(N)) for k in range(H)]
    for code, formula in zip(rnn_backward(dh, cache), (dx, dprev_h, dWx, dWh, db), strict=True):
        assert relative_error(code, formula) < 1e-12


GATE = {"f": 0, "i": 1, "c": 2, "o": 3}


def one_gate(a, gate):
    """The columns of one gate."""
    return np.split(a, 4, axis=-1)[GATE[gate]]


def literal_lstm_step(x, prev_h, prev_c, Wx, Wh, b):
    """4.1, example by example and gate by gate: the gates, next_c, next_h."""
    a = {g: affine(x, prev_h, one_gate(Wx, g), one_gate(Wh, g), one_gate(b, g)) for g in GATE}
    gates = {g: np.vectorize(math.tanh if g == "c" else sigma)(a[g]) for g in GATE}
    next_c, next_h = np.empty_like(prev_c), np.empty_like(prev_c)
    for n, k in np.ndindex(prev_c.shape):
        next_c[n, k] = gates["f"][n, k] * prev_c[n, k] + gates["i"][n, k] * gates["c"][n, k]
        next_h[n, k] = gates["o"][n, k] * math.tanh(next_c[n, k])
    return gates, next_c, next_h


def literal_lstm_da(gates, prev_c, next_c, dnext_h, dnext_c):
    """4.2, number by number: {gate: da}, dprev_c."""
    da, dprev_c = {g: np.empty_like(prev_c) for g in GATE}, np.empty_like(prev_c)
    for n, k in np.ndindex(prev_c.shape):
        f, i, c_tilde, o = (gates[g][n, k] for g in GATE)
        dc = dnext_c[n, k] + dnext_h[n, k] * o * (1 - math.tanh(next_c[n, k]) ** 2)
        da["f"][n, k] = dc * prev_c[n, k] * f * (1 - f)
        da["i"][n, k] = dc * c_tilde * i * (1 - i)
        da["c"][n, k] = dc * i * (1 - c_tilde**2)
        da["o"][n, k] = dnext_h[n, k] * math.tanh(next_c[n, k]) * o * (1 - o)
        dprev_c[n, k] = dc * f
    return da, dprev_c


def test_the_formulas_of_4_2(rng):
    N, D, H = 3, 4, 5
    x, prev_h, prev_c, Wx, Wh, b = make("lstm_step", rng, N=N, D=D, H=H).values()
    next_h, next_c, cache = lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b)
    gates, literal_c, literal_h = literal_lstm_step(x, prev_h, prev_c, Wx, Wh, b)
    assert relative_error(next_c, literal_c) < 1e-12 and relative_error(next_h, literal_h) < 1e-12

    dnext_h, dnext_c = rng.standard_normal((2, N, H))
    code_dx, code_dprev_h, code_dprev_c, code_dWx, code_dWh, code_db = lstm_step_backward(dnext_h, dnext_c, cache)
    da, dprev_c = literal_lstm_da(gates, prev_c, literal_c, dnext_h, dnext_c)
    dx = [[sum(dot(da[g][n], one_gate(Wx, g)[d]) for g in GATE) for d in range(D)] for n in range(N)]
    dprev_h = [[sum(dot(da[g][n], one_gate(Wh, g)[j]) for g in GATE) for j in range(H)] for n in range(N)]
    for code, formula in [(code_dx, dx), (code_dprev_h, dprev_h), (code_dprev_c, dprev_c)]:
        assert relative_error(code, formula) < 1e-12
    for g in GATE:
        dWx = [[dot(x[:, d], da[g][:, k]) for k in range(H)] for d in range(D)]
        dWh = [[dot(prev_h[:, j], da[g][:, k]) for k in range(H)] for j in range(H)]
        db = [sum(da[g][n, k] for n in range(N)) for k in range(H)]
        for code, formula in [(code_dWx, dWx), (code_dWh, dWh), (code_db, db)]:
            assert relative_error(one_gate(code, g), formula) < 1e-12, g


def test_the_formulas_of_4_4(rng):
    T, N, D, H = 4, 3, 2, 5
    x, h0, Wx, Wh, b = make("lstm", rng, T, N, D, H).values()
    h, cache = lstm_forward(x, h0, Wx, Wh, b)
    state, c, steps = h0, np.zeros((N, H)), []
    for t in range(T):
        gates, next_c, next_h = literal_lstm_step(x[t], state, c, Wx, Wh, b)
        assert relative_error(h[t], next_h) < 1e-12
        steps.append((state, gates, c, next_c))  # h_{t-1}, the gates, c_{t-1}, c_t
        state, c = next_h, next_c

    dh = rng.standard_normal((T, N, H))
    code_dx, code_dh0, code_dWx, code_dWh, code_db = lstm_backward(dh, cache)
    da, dprev_h, dprev_c = [None] * T, np.zeros((N, H)), np.zeros((N, H))
    for t in reversed(range(T)):
        _, gates, prev_c, next_c = steps[t]
        da[t], dprev_c = literal_lstm_da(gates, prev_c, next_c, dh[t] + dprev_h, dprev_c)
        dprev_h = np.array(
            [[sum(dot(da[t][g][n], one_gate(Wh, g)[j]) for g in GATE) for j in range(H)] for n in range(N)]
        )
    assert relative_error(code_dh0, dprev_h) < 1e-12
    dx = [
        [[sum(dot(da[t][g][n], one_gate(Wx, g)[d]) for g in GATE) for d in range(D)] for n in range(N)]
        for t in range(T)
    ]
    assert relative_error(code_dx, dx) < 1e-12
    every = [(t, n) for t in range(T) for n in range(N)]
    for g in GATE:
        dWx = [[sum(x[t, n, d] * da[t][g][n, k] for t, n in every) for k in range(H)] for d in range(D)]
        dWh = [[sum(steps[t][0][n, j] * da[t][g][n, k] for t, n in every) for k in range(H)] for j in range(H)]
        db = [sum(da[t][g][n, k] for t, n in every) for k in range(H)]
        for code, formula in [(code_dWx, dWx), (code_dWh, dWh), (code_db, db)]:
            assert relative_error(one_gate(code, g), formula) < 1e-12, g


# ---- the script


def test_run_as_a_script_it_prints_a_table_of_errors():
    result = run_python("rnn_layers.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    for layer in [*LAYERS, "temporal_softmax_loss", "fc", "softmax_loss"]:
        assert f"\n{layer} " in result.stdout
    assert "FAILED" not in result.stdout


def test_importing_the_layers_loads_neither_torch_nor_the_tests():
    code = "import sys, rnn_layers; print([m for m in sys.modules if m.split('.')[0] in ('torch', 'tests', 'data')])"
    result = run_python("-c", code)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
