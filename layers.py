"""Layers in numpy: fully connected, sigmoid, softmax loss, dropout.

A layer is a pair of functions. `*_forward(inputs...)` returns `(out, cache)`; `*_backward(dout, cache)` takes dL/dout
and returns the gradient of each input, in the order of the forward arguments. A loss returns `(loss, dx)`. The cache
holds references to inputs and outputs, not copies: do not modify them between forward and backward.

Arguments are arrays or anything that np.asarray accepts; they are never modified. float32 inputs give float32 outputs;
integers are converted to float64. A wrong shape raises a ValueError that names the argument.
"""

import math

import numpy as np


def as_arrays(**arguments):
    """Converts arguments to arrays and checks their shapes: `x, w = as_arrays(x=(x, "N D"), w=(w, "D 4H"))`.

    A letter stands for the same size in every argument, "4H" is four times H, and "..." matches any shape.
    Raises ValueError naming the first argument that does not fit, TypeError for a masked array.
    """
    arrays, sizes = [], {}
    for name, (value, axes) in arguments.items():
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array and its mask would be lost; pass {name}.filled(...)")
        arrays.append(array := np.asarray(value))
        if axes == "...":
            continue
        pairs = [(int(axis[:-1] or 1), axis[-1]) for axis in axes.split()]  # "4H" is (4, "H")
        fits = array.ndim == len(pairs) and all(
            [sizes.setdefault(letter, n // k) * k == n for (k, letter), n in zip(pairs, array.shape, strict=True)]
        )
        if not fits:
            expected = ", ".join(str(k * sizes[letter]) if letter in sizes else letter for k, letter in pairs)
            raise ValueError(f"{name} has shape {array.shape}, expected ({', '.join(axes.split())}) = ({expected})")
    return arrays


def as_floats(**arguments):
    """`as_arrays` in a common float dtype (float64 for integers). Raises TypeError unless all values are real."""
    arrays = as_arrays(**arguments)
    dtype = np.result_type(*arrays)
    if dtype.kind not in "fiub":
        raise TypeError(f"{', '.join(arguments)}: dtype {dtype}, expected real numbers")
    return [array.astype(dtype if dtype.kind == "f" else np.float64, copy=False) for array in arrays]


def check_indices(name, indices, V):
    """Raises TypeError unless the dtype is integer, and IndexError for the first index outside 0 ... V - 1."""
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {indices.dtype}, expected integers")
    outside = np.argwhere((indices < 0) | (indices >= V))
    if len(outside):
        raise IndexError(f"{name}{outside[0].tolist()} is {indices[tuple(outside[0])]}, outside 0 ... {V - 1}")


def fc_forward(x, w, b):
    """Fully connected layer: out = x w + b, with each example of x flattened to a row.

    x: (N, d1, ..., dk) with D = d1 · ... · dk, w: (D, M), b: (M,). Returns out: (N, M), cache.
    """
    (x,) = as_arrays(x=(x, "..."))
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}, expected (N, d1, ..., dk)")
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    rows, w, b = as_floats(x=(rows, "N D"), w=(w, "D M"), b=(b, "M"))
    return rows @ w + b, (x.shape, rows, w)


def fc_backward(dout, cache):
    """dx = dout wᵀ, dw = xᵀ dout, db = Σ_n dout[n].

    dout: (N, M). Returns dx: (N, d1, ..., dk), dw: (D, M), db: (M,).
    """
    shape, rows, w = cache
    rows, w, dout = as_floats(x=(rows, "N D"), w=(w, "D M"), dout=(dout, "N M"))
    dx = (dout @ w.T).reshape(shape)
    dw = rows.T @ dout
    db = dout.sum(axis=0)
    return dx, dw, db


def sigmoid(x):
    """1 / (1 + e^-x), computed as e^min(x, 0) / (1 + e^-|x|) to avoid overflow. x: any shape."""
    (x,) = as_floats(x=(x, "..."))
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def softmax_loss(x, y, weight=None):
    """Cross-entropy loss of the softmax of the scores: Σ_n weight[n] (log Σ_v e^x[n,v] - x[n,y[n]]).

    x: (N, V) scores, y: (N,) integers in 0 ... V - 1, weight: (N,) in x's dtype (default: 1/N, the minibatch mean).
    Returns loss, dx: (N, V), dx[n] = weight[n] (softmax(x[n]) - onehot(y[n])).
    Raises IndexError for a label out of range, TypeError unless labels are integers, ValueError if N is 0 (no mean).
    """
    x, y = as_arrays(x=(x, "N V"), y=(y, "N"))
    check_indices("y", y, x.shape[1])
    if weight is None:
        if len(x) == 0:
            raise ValueError(f"x has shape {x.shape}: an empty minibatch has no mean")
        weight = np.ones(len(x), x.dtype) / len(x)
    x, weight = as_floats(x=(x, "N V"), weight=(weight, "N"))
    rows = np.arange(len(x))
    shifted = x - x.max(axis=1, keepdims=True)  # same softmax, but e^shifted cannot overflow
    exp = np.exp(shifted)
    total = exp.sum(axis=1)
    loss = weight @ (np.log(total) - shifted[rows, y])
    dx = exp * (weight / total)[:, None]
    dx[rows, y] -= weight
    return loss, dx


def dropout_forward(x, p, rng):
    """Inverted dropout: drops each element with probability p and divides the rest by 1 - p, which keeps the mean.

    x: any shape, p: 0 ≤ p < 1, rng: a np.random.Generator (not used if p is 0; out is then x itself).
    Returns out: like x, cache. Raises ValueError if p is out of range. Do not use at test time.
    """
    (x,) = as_floats(x=(x, "..."))
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}, expected a probability with 0 <= p < 1")
    if p == 0:
        return x, None
    keep = (rng.random(x.shape, dtype=np.float32) >= p) / x.dtype.type(1 - p)
    return x * keep, keep


def dropout_backward(dout, cache):
    """dx = dout * keep: 0 for a dropped element, dout / (1 - p) for the others. dout: like x. Returns dx: like x."""
    keep = cache
    (dout,) = as_floats(dout=(dout, "..."))
    if keep is None:
        return dout
    if dout.shape != keep.shape:
        raise ValueError(f"dout has shape {dout.shape}, expected {keep.shape}")
    return dout * keep
