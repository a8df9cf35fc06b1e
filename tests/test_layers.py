"""layers.py against numeric gradients, PyTorch's autograd in float64, and its own words."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import layers
from layers import dropout_backward, dropout_forward, fc_backward, fc_forward, sigmoid, softmax_loss
from tests.gradient_check import check_layer, check_loss, numeric_gradient, numeric_gradient_array, relative_error

pytestmark = pytest.mark.filterwarnings("error")  # numpy's too: an overflow or a NaN on the way fails the test


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def torch_gradients(function, inputs, douts):
    """(outputs, {float input: gradient}) of a function in PyTorch, douts being the gradients of its outputs."""
    tensors = {name: torch.tensor(a, requires_grad=a.dtype.kind == "f") for name, a in inputs.items()}
    outs = function(**tensors)
    outs = outs if isinstance(outs, tuple) else (outs,)
    leaves = {name: t for name, t in tensors.items() if t.requires_grad}
    gradients = torch.autograd.grad(outs, list(leaves.values()), [torch.tensor(d) for d in douts])
    return [out.detach().numpy() for out in outs], {n: g.numpy() for n, g in zip(leaves, gradients, strict=True)}


def strided(a):
    """The same numbers, every second element of a larger array."""
    out = np.full([2 * n for n in a.shape], np.nan if a.dtype.kind == "f" else 0, a.dtype)[
        tuple([slice(1, None, 2)] * a.ndim)
    ]
    out[...] = a
    return out


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": read_only,
}


# ---- fully connected


@pytest.mark.parametrize("shape", [(1, 1), (4, 6), (3, 2, 5), (2, 3, 1, 4)])
@pytest.mark.parametrize("M", [1, 7])
def test_fc_gradients(rng, shape, M):
    D = int(np.prod(shape[1:]))
    inputs = {"x": rng.standard_normal(shape), "w": rng.standard_normal((D, M)), "b": rng.standard_normal(M)}
    assert max(check_layer(fc_forward, fc_backward, **inputs).values()) < 1e-7
    dout = rng.standard_normal((shape[0], M))
    [out], expected = torch_gradients(lambda x, w, b: x.flatten(1) @ w + b, inputs, [dout])
    got, cache = fc_forward(**inputs)
    assert relative_error(got, out) < 1e-11
    for gradient, wanted in zip(fc_backward(dout, cache), expected.values(), strict=True):
        assert relative_error(gradient, wanted) < 1e-11


def test_fc_of_an_empty_minibatch(rng):
    out, cache = fc_forward(np.zeros((0, 2, 3)), rng.standard_normal((6, 4)), np.zeros(4))
    dx, dw, db = fc_backward(np.zeros((0, 4)), cache)
    assert out.shape == (0, 4) and dx.shape == (0, 2, 3)
    assert not dw.any() and dw.shape == (6, 4) and not db.any() and db.shape == (4,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fc_accepts_any_layout_and_changes_nothing(rng, layout):
    arrays = [rng.standard_normal(shape) for shape in [(3, 2, 5), (10, 4), (4,), (3, 4)]]
    laid_out = [LAYOUTS[layout](a) for a in arrays]
    out, cache = fc_forward(*laid_out[:3])
    gradients = fc_backward(laid_out[3], cache)
    wanted_out, wanted_cache = fc_forward(*arrays[:3])
    for a, b in zip([out, *gradients], [wanted_out, *fc_backward(arrays[3], wanted_cache)], strict=True):
        assert relative_error(a, b) < 1e-14
    for a, b in zip(laid_out, arrays, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(
    "x, w, b, message",
    [
        ((3,), (3, 4), (4,), r"x has shape \(3,\), expected \(N, d1, \.\.\., dk\)"),
        ((2, 3, 4), (11, 5), (5,), r"w has shape \(11, 5\), expected \(D, M\) = \(12, 5\)"),
        ((2, 12), (12,), (5,), r"w has shape \(12,\), expected \(D, M\) = \(12, M\)"),
        ((2, 12), (12, 5), (4,), r"b has shape \(4,\), expected \(M\) = \(5\)"),
        ((2, 12), (12, 5), (1, 5), r"b has shape \(1, 5\), expected \(M\) = \(5\)"),
    ],
)
def test_fc_names_the_argument_of_a_wrong_shape(x, w, b, message):
    with pytest.raises(ValueError, match=message):
        fc_forward(np.zeros(x), np.zeros(w), np.zeros(b))


def test_fc_backward_names_a_wrong_dout():
    _, cache = fc_forward(np.zeros((2, 3)), np.zeros((3, 4)), np.zeros(4))
    with pytest.raises(ValueError, match=r"dout has shape \(4, 2\), expected \(N, M\) = \(2, 4\)"):
        fc_backward(np.zeros((4, 2)), cache)


# ---- sigmoid


def test_sigmoid_is_exact_to_rounding_at_both_ends(rng):
    x = np.concatenate([np.linspace(-700, 700, 2001), rng.standard_normal(100)])
    expected = torch.sigmoid(torch.tensor(x)).numpy()
    np.testing.assert_allclose(sigmoid(x), expected, rtol=1e-14)
    np.testing.assert_allclose(sigmoid(-50.0), np.exp(-50), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sigmoid_keeps_the_dtype_and_does_not_overflow(dtype):
    x = np.array([-1e4, -1, 0, 1, 1e4], dtype)
    out = sigmoid(x)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, [0, 0.26894142, 0.5, 0.73105858, 1], rtol=1e-3)


# ---- softmax loss


@pytest.mark.parametrize("N, V", [(1, 1), (1, 5), (6, 1), (7, 10)])
def test_softmax_loss_gradient(rng, N, V):
    x, y = 3 * rng.standard_normal((N, V)), rng.integers(0, V, N)
    assert check_loss(softmax_loss, x, y) < 1e-7
    [loss], expected = torch_gradients(lambda x, y: F.cross_entropy(x, y), {"x": x, "y": y}, [np.array(1.0)])
    got, dx = softmax_loss(x, y)
    assert relative_error(got, loss) < 1e-11 and relative_error(dx, expected["x"]) < 1e-11


def test_softmax_loss_of_equal_scores_is_log_V():
    loss, dx = softmax_loss(np.zeros((4, 10)), np.arange(4))
    assert loss == pytest.approx(np.log(10))
    assert dx[0, 0] == pytest.approx((0.1 - 1) / 4) and dx[0, 1] == pytest.approx(0.1 / 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_loss_is_stable_and_keeps_the_dtype(dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    before = x.tobytes()
    loss, dx = softmax_loss(x, np.array([1, 2]))
    assert loss == pytest.approx((2e4 + np.log(3)) / 2) and loss.dtype == dx.dtype == dtype
    np.testing.assert_allclose(dx, [[0.5, -0.5, 0], [1 / 6, 1 / 6, -1 / 3]], rtol=1e-6)
    assert x.tobytes() == before


@pytest.mark.parametrize("label", [-1, 5, 2**40])
def test_softmax_loss_names_a_label_outside_the_range(label):
    with pytest.raises(IndexError, match=rf"y\[2\] is {label}, outside 0 \.\.\. 4"):
        softmax_loss(np.zeros((3, 5)), np.array([0, 4, label]))


def test_softmax_loss_wants_labels_for_each_row_and_at_least_one_row():
    with pytest.raises(ValueError, match=r"y has shape \(2,\), expected \(N\) = \(3\)"):
        softmax_loss(np.zeros((3, 5)), np.array([0, 1]))
    with pytest.raises(ValueError, match="empty minibatch"):
        softmax_loss(np.zeros((0, 5)), np.zeros(0, int))
    with pytest.raises(TypeError, match="y has dtype float64, expected integers"):
        softmax_loss(np.zeros((3, 5)), np.zeros(3))


# ---- dropout


def test_dropout_gradient(rng):
    x = rng.standard_normal((5, 3, 4))
    errors = check_layer(lambda x: dropout_forward(x, 0.3, np.random.default_rng(1)), dropout_backward, x=x)
    assert errors["x"] < 1e-7


def test_dropout_drops_with_probability_p_and_keeps_the_mean(rng):
    x = np.full((200, 500), 3.0)
    out, _ = dropout_forward(x, 0.2, rng)
    assert np.mean(out == 0) == pytest.approx(0.2, abs=0.01)
    assert set(np.unique(out)) == {0, 3 / 0.8}
    assert out.mean() == pytest.approx(3, rel=0.01) and (x == 3).all()


def test_dropout_passes_the_gradient_where_the_element_passed(rng):
    x, dout = rng.standard_normal((20, 30)), rng.standard_normal((20, 30))
    out, cache = dropout_forward(x, 0.5, rng)
    dx = dropout_backward(dout, cache)
    np.testing.assert_allclose(dx, np.where(out == 0, 0, 2 * dout))


def test_dropout_of_nothing_is_the_identity_and_the_dtype_stays(rng):
    x = rng.standard_normal((4, 5)).astype(np.float32)
    out, cache = dropout_forward(x, 0, rng)
    assert np.array_equal(out, x) and out.dtype == dropout_backward(x, cache).dtype == np.float32


def test_dropout_of_nothing_keeps_an_element_even_where_the_generator_draws_zero():
    class Zeros:
        def random(self, shape, dtype):
            return np.zeros(shape, dtype)

    assert layers.dropout_forward(np.ones((2, 3)), 0, Zeros())[0].tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_dropout_names_a_p_that_is_no_probability(rng, p):
    with pytest.raises(ValueError, match=f"p is {p}"):
        dropout_forward(np.zeros(3), p, rng)


def test_dropout_names_a_wrong_dout(rng):
    _, cache = dropout_forward(np.zeros((2, 3)), 0.5, rng)
    with pytest.raises(ValueError, match=r"dout has shape \(3,\), expected \(2, 3\)"):
        dropout_backward(np.zeros(3), cache)


# ---- the numeric gradient itself


def test_numeric_gradient_of_known_functions():
    x = np.array([[1.0, 2], [3, 4]])
    before = x.copy()
    assert relative_error(numeric_gradient(lambda x: np.sum(x**3), x), 3 * x**2) < 1e-9
    assert relative_error(numeric_gradient_array(lambda x: x**2, x, x), 2 * x**2) < 1e-9
    assert numeric_gradient(np.sin, 0.5) == pytest.approx(np.cos(0.5), rel=1e-9)
    assert np.array_equal(x, before)


def test_relative_error_is_the_definition():
    assert relative_error(np.array([1.0, 2]), np.array([1.0, 3])) == pytest.approx(1 / 5)
    assert relative_error(np.zeros(2), np.array([0, 1e-9])) == pytest.approx(0.1)
    assert relative_error(np.zeros((0, 3)), np.zeros((0, 3))) == 0
    assert relative_error(np.array([0, np.nan]), np.zeros(2)) == np.inf
    with pytest.raises(ValueError, match=r"\(2,\) and \(1, 2\)"):
        relative_error(np.zeros(2), np.zeros((1, 2)))


def test_check_layer_finds_a_wrong_gradient(rng):
    def backward(dout, cache):
        dx, dw, db = fc_backward(dout, cache)
        dw[1, 2] += 1e-3
        return dx, dw, db

    shapes = {"x": (2, 3), "w": (3, 4), "b": (4,)}
    errors = check_layer(fc_forward, backward, **{name: rng.standard_normal(s) for name, s in shapes.items()})
    assert errors["w"] > 1e-5 and max(errors["x"], errors["b"]) < 1e-7


@pytest.mark.parametrize(
    "gradients, message",
    [
        (lambda dout: (dout, dout, dout), "gave 3 gradients, expected 2: of x, y"),
        (lambda dout: dout, "gave 1 gradients, expected 2: of x, y"),
        (lambda dout: [dout, dout[None]], r"gradient of y has shape \(1, 3\), expected \(3,\)"),
    ],
    ids=["too many", "too few", "another shape"],
)
def test_check_layer_says_which_gradients_do_not_fit_the_inputs(rng, gradients, message):
    inputs = {"x": rng.standard_normal(3), "k": np.arange(3), "y": rng.standard_normal(3)}
    with pytest.raises(ValueError, match=message):
        check_layer(lambda x, k, y: (x + y, None), lambda dout, _: gradients(dout), **inputs)


# ---- integers


def test_small_integers_are_computed_in_float64_and_do_not_wrap_around():
    x, w = np.full((1, 2), 200, np.uint8), np.full((2, 1), 200, np.uint8)
    out, _ = layers.fc_forward(x, w, np.zeros(1, np.uint8))
    assert out.dtype == np.float64 and out[0, 0] == 80_000
    assert np.allclose(layers.sigmoid(np.array([3, 200], np.uint8)), [1 / (1 + np.exp(-3)), 1])
