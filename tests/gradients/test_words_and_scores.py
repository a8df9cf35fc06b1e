"""Word embedding, temporal fully connected layer, temporal softmax loss."""

import numpy as np
import pytest
from torch.nn import functional as F

from rnn_layers import (
    temporal_fc_backward,
    temporal_fc_forward,
    temporal_softmax_loss,
    word_embedding_backward,
    word_embedding_forward,
)
from tests.gradient_check import check_loss, relative_error
from tests.gradients.layer_tests import LAYOUTS, LayerTests, autograd, lin

pytestmark = pytest.mark.filterwarnings("error")


class TestWordEmbedding(LayerTests):
    functions = word_embedding_forward, word_embedding_backward

    def in_torch(x, W):
        return F.embedding(x, W)

    def inputs(self, r, T, N, D, H):
        return {"x": np.random.default_rng(T * N).integers(0, H, (N, T)), "W": r((H, D))}


class TestTemporalFC(LayerTests):
    functions = temporal_fc_forward, temporal_fc_backward

    def in_torch(x, w, b):
        return x @ w + b

    def inputs(self, r, T, N, D, H):
        return {"x": r((N, T, D)), "w": r((D, H)), "b": r(H)}


def test_temporal_fc_forward_matches_published_values():
    out, _ = temporal_fc_forward(lin(-0.1, 0.5, 3, 2, 5), lin(-0.1, 0.5, 5, 4), lin(-0.3, 0.1, 4))
    assert relative_error(out[0, 0], [-0.31860254, -0.19452511, -0.07044767, 0.05362976]) < 1e-7


@pytest.mark.parametrize("shape, dtype", [((7,), np.int32), ((2, 3, 4), np.uint8)])
def test_word_embedding_accepts_any_shape_and_integer_dtype(rng, shape, dtype):
    x, W = rng.integers(0, 5, shape).astype(dtype), rng.standard_normal((5, 3))
    out, cache = word_embedding_forward(x, W)
    assert np.array_equal(out, W[x])
    dout = rng.standard_normal(out.shape)
    wanted = np.zeros_like(W)
    np.add.at(wanted, x, dout)
    assert relative_error(word_embedding_backward(dout, cache), wanted) < 1e-13


def test_word_embedding_errors_name_the_wrong_word():
    with pytest.raises(IndexError, match=r"x\[1, 2\] is 5, outside 0 \.\.\. 4"):
        word_embedding_forward(np.array([[0, 4, 0], [0, 0, 5]]), np.zeros((5, 2)))
    with pytest.raises(TypeError, match="x has dtype bool, expected integers"):
        word_embedding_forward(np.zeros((2, 3), bool), np.zeros((5, 2)))


def torch_loss(x, y, mask):
    return (F.cross_entropy(x.flatten(0, 1), y.flatten(), reduction="none") * mask.flatten()).sum() / len(x)


MASKS = {
    "half": lambda rng, shape: rng.random(shape) < 0.5,
    "all": lambda rng, shape: np.ones(shape, bool),
    "none": lambda rng, shape: np.zeros(shape, bool),
    "weights": lambda rng, shape: rng.random(shape),
    "integers": lambda rng, shape: rng.integers(0, 2, shape),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("N, T, V", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)])
def test_temporal_softmax_loss_matches_numeric_and_autograd(rng, mask, N, T, V):
    x, y = 3 * rng.standard_normal((N, T, V)), rng.integers(0, V, (N, T))
    mask = MASKS[mask](rng, (N, T))
    assert check_loss(temporal_softmax_loss, x, y, mask) < 1e-7
    inputs = {"x": x, "y": y, "mask": 1.0 * mask}
    [wanted_loss], [wanted_dx, _] = autograd(torch_loss, inputs, [np.array(1.0)])
    for layout in LAYOUTS.values():
        laid_out = [layout(a) for a in (x, y, mask)]
        loss, dx = temporal_softmax_loss(*laid_out)
        assert relative_error(loss, wanted_loss) < 1e-11 and relative_error(dx, wanted_dx) < 1e-11


GOOD = {"x": np.zeros((2, 3, 5), np.float32), "y": np.zeros((2, 3), int), "mask": np.ones((2, 3))}


@pytest.mark.parametrize("mask_dtype", [bool, np.int64, np.float64])
def test_temporal_softmax_loss_keeps_float32(mask_dtype):
    loss, dx = temporal_softmax_loss(GOOD["x"], GOOD["y"], GOOD["mask"].astype(mask_dtype))
    assert loss.dtype == dx.dtype == np.float32


@pytest.mark.parametrize("verbose", [{}, {"verbose": True}], ids=str)
def test_temporal_softmax_loss_prints_the_shape_if_verbose(capsys, verbose):
    temporal_softmax_loss(**GOOD, **verbose)
    assert ("(2, 3, 5)" in capsys.readouterr().out) == bool(verbose)


def test_temporal_softmax_loss_errors_name_the_argument():
    for name, wrong, error, message in (
        ("x", np.zeros((2, 3)), ValueError, r"x has shape \(2, 3\), expected \(N, T, V\)"),
        ("y", np.zeros((2, 4), int), ValueError, r"y has shape \(2, 4\), expected \(N, T\) = \(2, 3\)"),
        ("mask", np.ones((3, 2)), ValueError, "mask has shape"),
        ("mask", np.ma.ones((2, 3)), TypeError, "mask is a masked array"),
        ("y", np.array([[0, 0, 4], [0, 0, 5]]), IndexError, r"y\[1, 2\] is 5, outside 0 \.\.\. 4"),
    ):
        with pytest.raises(error, match=message):
            temporal_softmax_loss(**{**GOOD, name: wrong})
    with pytest.raises(ValueError, match="empty minibatch"):
        temporal_softmax_loss(np.zeros((0, 3, 5)), np.zeros((0, 3), int), np.ones((0, 3)))
