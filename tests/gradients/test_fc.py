"""Fully connected layer, sigmoid, softmax loss, dropout: `python -m pytest tests/gradients/test_fc.py`."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from layers import dropout_backward, dropout_forward, fc_backward, fc_forward, sigmoid, softmax_loss
from tests.gradient_check import check_layer, check_loss, relative_error
from tests.gradients.layer_tests import LayerTests, autograd

pytestmark = pytest.mark.filterwarnings("error")


class TestFC(LayerTests):
    functions = fc_forward, fc_backward

    def in_torch(x, w, b):
        return x.flatten(1) @ w + b

    def inputs(self, r, T, N, D, H):
        return {"x": r((N, D, 2)), "w": r((2 * D, H)), "b": r(H)}

    def test_a_wrong_shape_raises_a_value_error_with_the_name(self):
        x, w, b = self.make().values()
        for name, arguments in {"x": (x[0, 0], w, b), "w": (x, w[1:], b), "b": (x, w, b[None])}.items():
            with pytest.raises(ValueError, match=f"^{name} has shape .*, expected "):
                fc_forward(*arguments)


@pytest.mark.parametrize("dtype, tolerance", [(np.float16, 3e-3), (np.float32, 1e-6), (np.float64, 1e-14)])
def test_sigmoid_is_exact_for_large_inputs_and_keeps_the_dtype(dtype, tolerance):
    x = np.linspace(-1000, 1000, 2001).astype(dtype)
    out, exact = sigmoid(x), torch.sigmoid(torch.tensor(x, dtype=torch.float64)).numpy()
    assert out.dtype == dtype
    np.testing.assert_allclose(out, exact, rtol=tolerance, atol=np.finfo(dtype).tiny)
    assert sigmoid(np.array([3, 200], np.uint8)) == pytest.approx([1 / (1 + np.exp(-3)), 1])


@pytest.mark.parametrize("N, V", [(1, 1), (1, 5), (6, 1), (7, 10)])
def test_softmax_loss_matches_numeric_gradient_and_autograd(rng, N, V):
    x, y = 3 * rng.standard_normal((N, V)), rng.integers(0, V, N)
    assert check_loss(softmax_loss, x, y) < 1e-7
    [loss], [dx] = autograd(F.cross_entropy, {"x": x, "y": y}, [np.array(1.0)])
    ours = softmax_loss(x.tolist(), y.tolist())
    assert relative_error(ours[0], loss) < 1e-11 and relative_error(ours[1], dx) < 1e-11


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_loss_is_stable_and_keeps_the_dtype(dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    before = x.copy()
    loss, dx = softmax_loss(x, np.array([1, 2]))
    assert loss == pytest.approx((2e4 + np.log(3)) / 2) and loss.dtype == dx.dtype == dtype
    np.testing.assert_allclose(dx, [[0.5, -0.5, 0], [1 / 6, 1 / 6, -1 / 3]], rtol=1e-6)
    assert np.array_equal(x, before)


def test_softmax_loss_errors_name_the_wrong_argument():
    for y, error, message in (
        ([0, 4, -1], IndexError, r"y\[2\] is -1, outside 0 \.\.\. 4"),
        ([0, 1], ValueError, r"y has shape \(2,\), expected \(N\) = \(3\)"),
        ([0.0, 1.0, 2.0], TypeError, "y has dtype float64, expected integers"),
    ):
        with pytest.raises(error, match=message):
            softmax_loss(np.zeros((3, 5)), y)
    with pytest.raises(ValueError, match=r"weight has shape \(2,\)"):
        softmax_loss(np.zeros((3, 5)), [0, 1, 2], np.ones(2))
    with pytest.raises(ValueError, match="empty minibatch"):
        softmax_loss(np.zeros((0, 5)), np.zeros(0, int))


def test_dropout_gradient_matches_numeric_gradient(rng):
    x = rng.standard_normal((5, 3, 4))
    errors = check_layer(lambda x: dropout_forward(x, 0.3, np.random.default_rng(1)), dropout_backward, x=x)
    assert errors["x"] < 1e-7


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_drops_with_probability_p_and_keeps_the_mean(rng, dtype):
    x = np.full((200, 500), 3, dtype)
    out, cache = dropout_forward(x, 0.2, rng)
    assert np.mean(out == 0) == pytest.approx(0.2, abs=0.01)
    assert set(np.unique(out)) == {0, dtype(3) * (1 / dtype(0.8))}
    assert out.mean() == pytest.approx(3, rel=0.01) and (x == 3).all()
    assert out.dtype == dropout_backward(x, cache).dtype == dtype


def test_dropout_with_p_0_is_the_identity_and_needs_no_rng(rng):
    x = rng.standard_normal((4, 5)).astype(np.float32)
    out, cache = dropout_forward(x, 0, None)
    assert np.array_equal(out, x) and np.array_equal(dropout_backward(x, cache), x)


def test_dropout_keeps_an_element_if_its_random_number_is_p():
    class Halves:
        def random(self, shape, dtype):
            return np.full(shape, 0.5, dtype)

    assert dropout_forward(np.ones((2, 3)), 0.5, Halves())[0].tolist() == [[2, 2, 2], [2, 2, 2]]


def test_dropout_errors_name_a_wrong_p_or_dout(rng):
    for p in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match=f"p is {p}"):
            dropout_forward(np.zeros(3), p, rng)
    _, cache = dropout_forward(np.zeros((2, 3)), 0.5, rng)
    with pytest.raises(ValueError, match=r"dout has shape \(3,\), expected \(2, 3\)"):
        dropout_backward(np.zeros(3), cache)
