"""Layers in numpy: fully connected, sigmoid, softmax loss, dropout.

A layer is a pair of functions. `*_forward(inputs...)` returns `(out, cache)`; `*_backward(dout, cache)` takes dL/dout
and returns the gradient of each input, in the forward's argument order. A loss returns `(loss, dx)` at once. The cache
is opaque; it refers to inputs and output rather than copying them: change neither between forward and backward.

float32 in gives float32 out, float64 float64, and float16 float16; integers are computed in float64. Arrays of any
strides are accepted, and none is changed. An array of the wrong shape is a ValueError that names it.
"""

import numpy as np


def check_shapes(**arrays):
    """Sizes by name: `N, D, H = check_shapes(x=(x, "N D"), w=(w, "D 4H"), ...)`, in the order of first mention.

    A letter means the same size wherever it stands, "4H" four times H. The first array that does not fit is a
    ValueError that gives its name, its shape and the expected one.
    """
    sizes = {}
    for name, (array, axes) in arrays.items():
        axes, shape = axes.split(), np.shape(array)
        factors = [int(axis[:-1] or 1) for axis in axes]
        fits = len(shape) == len(axes)
        if fits:
            for axis, factor, size in zip(axes, factors, shape, strict=True):
                fits &= sizes.setdefault(axis[-1], size // factor) * factor == size
        if not fits:
            expected = [str(k * sizes[a[-1]]) if a[-1] in sizes else a for a, k in zip(axes, factors, strict=True)]
            raise ValueError(f"{name} has shape {shape}, expected ({', '.join(axes)}) = ({', '.join(expected)})")
    return tuple(sizes.values())


def check_indices(name, indices, V):
    """Raises IndexError, naming the first of these integers outside 0 ... V - 1, and TypeError where they are none.

    Negative ones are outside: numpy would count them from the end.
    """
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {indices.dtype}, expected integers")
    if indices.size and (indices.min() < 0 or indices.max() >= V):
        where = tuple(np.argwhere((indices < 0) | (indices >= V))[0].tolist())
        raise IndexError(f"{name}{list(where)} is {indices[where]}, outside 0 ... {V - 1}")


def float_type(*arrays):
    """The dtype to compute these arrays in: numpy's common type, and float64 where that would be no float type."""
    dtype = np.result_type(*arrays)
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def as_float(*arrays):
    """The arrays, integers among them as float64: products of small integers would wrap around."""
    return [a.astype(np.float64) if a.dtype.kind in "iub" else a for a in arrays]


def fc_forward(x, w, b):
    """Fully connected layer: out = x w + b, each example of x flattened to a row.

    x: (N, d1, ..., dk) with D = d1 · ... · dk, w: (D, M), b: (M,). Returns out: (N, M), cache.
    """
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}, expected (N, d1, ..., dk)")
    rows = x.reshape(len(x), np.prod(x.shape[1:], dtype=int))
    check_shapes(x=(rows, "N D"), w=(w, "D M"), b=(b, "M"))
    rows, w, b = as_float(rows, w, b)
    out = (rows @ w).astype(float_type(rows, w, b), copy=False)
    out += b
    return out, (x.shape, rows, w)


def fc_backward(dout, cache):
    """dx = dout wᵀ, dw = xᵀ dout, db = Σ_n dout[n].

    dout: (N, M). Returns dx: (N, d1, ..., dk), dw: (D, M), db: (M,).
    """
    x_shape, rows, w = cache
    check_shapes(x=(rows, "N D"), w=(w, "D M"), dout=(dout, "N M"))
    dx = (dout @ w.T).reshape(x_shape)
    dw = rows.T @ dout
    db = dout.sum(axis=0)
    return dx, dw, db


def sigmoid(x):
    """1 / (1 + e^-x), as e^x / (1 + e^x) where x < 0: no overflow, and full precision at both ends. x: any shape."""
    (x,) = as_float(np.asarray(x))
    z = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, z) / (1 + z)


def softmax_loss(x, y):
    """Cross entropy of the softmax of the scores, averaged over the minibatch: mean_n (log Σ_v e^x[n,v] - x[n,y[n]]).

    x: (N, V) scores, N ≥ 1, y: (N,) integers in 0 ... V - 1. Returns loss, dx: (N, V).
    Raises IndexError for a label outside that range, TypeError for labels that are not integers.
    """
    N, V = check_shapes(x=(x, "N V"), y=(y, "N"))
    check_indices("y", y, V)
    if N == 0:
        raise ValueError(f"x has shape {x.shape}: no mean over an empty minibatch")
    return weighted_softmax_loss(x, y, np.full(N, 1 / N, float_type(x)))


def weighted_softmax_loss(x, y, weight):
    """Σ_n weight[n] (log Σ_v e^x[n,v] - x[n,y[n]]) and its gradient, weight[n] (softmax(x[n]) - onehot(y[n])).

    x: (N, V), y: (N,), weight: (N,) in the dtype of the result. Returns loss, dx: (N, V).
    """
    rows = np.arange(len(x))
    dx = np.subtract(x, x.max(axis=1, keepdims=True), dtype=weight.dtype)  # softmax stays, and the largest e^x is 1
    label = dx[rows, y]
    np.exp(dx, out=dx)
    total = dx.sum(axis=1)
    loss = weight @ (np.log(total) - label)
    dx *= (weight / total)[:, None]
    dx[rows, y] -= weight
    return loss, dx


def dropout_forward(x, p, rng):
    """Inverted dropout: each element is dropped with probability p, the others are divided by 1 - p (mean unchanged).

    x: any shape, p: 0 ≤ p < 1, rng: a np.random.Generator. Returns out: like x, cache. At test time leave it out.
    Raises ValueError for another p.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}, expected a probability with 0 <= p < 1")
    keep = (rng.random(x.shape, dtype=np.float32) >= p).astype(float_type(x))
    keep /= 1 - p
    return x * keep, keep


def dropout_backward(dout, cache):
    """dout: like x. Returns dx: the gradient passes where the element did, with the same factor."""
    keep = cache
    if dout.shape != keep.shape:
        raise ValueError(f"dout has shape {dout.shape}, expected {keep.shape}")
    return dout * keep
