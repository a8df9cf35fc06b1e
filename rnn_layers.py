"""Recurrent layers in numpy: vanilla RNN, LSTM, word embedding, temporal fully connected, temporal softmax loss.

Pairs of functions as in layers.py, with the same rules; WRITEUP.md derives each backward. The recurrent layers take
sequences time-major, (T, N, D); the word embedding and the temporal layers take (N, T, ...).
N: minibatch, T: time steps, D: input size, H: hidden size, V: vocabulary, M: scores.

A sequence is its step repeated, with every product that need not wait for the step before taken out of the loop: one
product x Wx for the inputs of all steps, and one for each weight's gradient, over T·N rows, after it.
"""

import numpy as np

from layers import as_float, check_indices, check_shapes, fc_backward, fc_forward, float_type, weighted_softmax_loss

# ---- what the RNN and the LSTM share: a = x Wx + prev_h Wh + b


def _affine_backward(da, x, prev_h, Wx):
    """dx, dWx, dWh, db of a = x Wx + prev_h Wh + b, whose rows are those of one step or of all steps at once."""
    return da @ Wx.T, x.T @ da, prev_h.T @ da, da.sum(axis=0)


def _rows(N, width, dtype):
    """An empty (N, width) array with a gap of 16 numbers after each row.

    Rows a power of two of bytes apart compete for the same lines of the cache: products with them take longer.
    """
    return np.empty((N, width + 16), dtype)[:, :width]


# ---- vanilla RNN


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    """One step: next_h = tanh(x Wx + prev_h Wh + b).

    x: (N, D), prev_h: (N, H), Wx: (D, H), Wh: (H, H), b: (H,). Returns next_h: (N, H), cache.
    """
    check_shapes(x=(x, "N D"), prev_h=(prev_h, "N H"), Wx=(Wx, "D H"), Wh=(Wh, "H H"), b=(b, "H"))
    x, prev_h = as_float(x, prev_h)
    next_h = np.tanh(x @ Wx + prev_h @ Wh + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h, cache):
    """With a = x Wx + prev_h Wh + b: da = dnext_h * (1 - next_h²), and from it all five gradients.

    dnext_h: (N, H). Returns dx: (N, D), dprev_h: (N, H), dWx: (D, H), dWh: (H, H), db: (H,).
    """
    x, prev_h, Wx, Wh, next_h = cache
    check_shapes(next_h=(next_h, "N H"), dnext_h=(dnext_h, "N H"))
    da = dnext_h * (1 - next_h**2)
    dx, dWx, dWh, db = _affine_backward(da, x, prev_h, Wx)
    return dx, da @ Wh.T, dWx, dWh, db


def rnn_forward(x, h0, Wx, Wh, b):
    """T steps: h[t] = tanh(x[t] Wx + prev_h Wh + b), where prev_h is h[t-1], and h0 at t = 0.

    x: (T, N, D), h0: (N, H), Wx: (D, H), Wh: (H, H), b: (H,). Returns h: (T, N, H), cache (which refers to h).
    """
    T, N, D, H = check_shapes(x=(x, "T N D"), h0=(h0, "N H"), Wx=(Wx, "D H"), Wh=(Wh, "H H"), b=(b, "H"))
    x = as_float(x)[0].reshape(T * N, D)
    h = np.empty((T + 1, N, H), float_type(x, h0, Wx, Wh, b))  # h[t + 1] is the state after step t
    h[0] = h0
    np.matmul(x, Wx, out=h[1:].reshape(T * N, H))
    for t in range(T):
        a = h[t + 1]
        a += h[t] @ Wh
        a += b
        np.tanh(a, out=a)
    return h[1:], (x, h, Wx, Wh)


def rnn_backward(dh, cache):
    """Backward through time: each step gets dh[t] and, beside it, what the step after it passes to h[t].

    dh: (T, N, H), the gradient that reaches each h[t] from outside.
    Returns dx: (T, N, D), dh0: (N, H), dWx: (D, H), dWh: (H, H), db: (H,).
    """
    x, h, Wx, Wh = cache
    T, N, H = check_shapes(h=(h[1:], "T N H"), dh=(dh, "T N H"))
    da = np.empty((T, N, H), h.dtype)
    dprev_h = np.zeros((N, H), h.dtype)
    for t in reversed(range(T)):
        np.multiply(dh[t] + dprev_h, 1 - h[t + 1] ** 2, out=da[t])
        dprev_h = (Wh @ da[t].T).T  # da[t] Wh^T, in the order of the product that BLAS is faster at
    dx, dWx, dWh, db = _affine_backward(da.reshape(T * N, H), x, h[:-1].reshape(T * N, H), Wx)
    return dx.reshape(T, N, len(Wx)), np.ascontiguousarray(dprev_h), dWx, dWh, db


# ---- LSTM: gates f, i, c̃, o, side by side in the columns of Wx, Wh, b and stacked in arrays (4, N, H)


def _by_gate(a):
    """The (4, R, H) view of an (R, 4H) array: gate first."""
    R, columns = a.shape
    return a.reshape(R, 4, columns // 4).swapaxes(0, 1)


def _lstm_cell(a, prev_c, next_c, tanh_c, next_h):
    """f, i, o = σ(a_f), σ(a_i), σ(a_o), c̃ = tanh(a_c), next_c = f * prev_c + i * c̃, next_h = o * tanh(next_c).

    a: (4, N, H) becomes the gates; next_c, tanh_c and next_h: (N, H) are filled. Nothing is allocated but i * c̃.
    σ(a) = ½ + ½ tanh(½ a), so that one call of tanh serves the four gates: each is shift + scale tanh(scale a).
    """
    scale = np.array([0.5, 0.5, 1, 0.5], a.dtype).reshape(4, 1, 1)
    shift = 1 - scale
    a *= scale
    np.tanh(a, out=a)
    a *= scale
    a += shift
    f, i, c_tilde, o = a
    np.multiply(f, prev_c, out=next_c)
    next_c += i * c_tilde
    np.tanh(next_c, out=tanh_c)
    np.multiply(o, tanh_c, out=next_h)


def _lstm_cell_backward(dnext_h, dc, gates, prev_c, tanh_c, da):
    """Fills da: (4, N, H), the gradient of a. dc: (N, H) comes as dnext_c and leaves as dprev_c.

    dc = dnext_c + dnext_h * o * (1 - tanh²(next_c)), da_f = dc * prev_c * f (1 - f), da_i = dc * c̃ * i (1 - i),
    da_c = dc * i * (1 - c̃²), da_o = dnext_h * tanh(next_c) * o (1 - o), dprev_c = dc * f.
    """
    f, i, c_tilde, o = gates
    da_f, da_i, da_c, da_o = da
    dc += dnext_h * o * (1 - tanh_c**2)
    np.multiply(dc * prev_c, f * (1 - f), out=da_f)
    np.multiply(dc * c_tilde, i * (1 - i), out=da_i)
    np.multiply(dc * i, 1 - c_tilde**2, out=da_c)
    np.multiply(dnext_h * tanh_c, o * (1 - o), out=da_o)
    dc *= f


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    """One step: next_c = f * prev_c + i * c̃, next_h = o * tanh(next_c).

    The gates are f = σ(a_f), i = σ(a_i), c̃ = tanh(a_c), o = σ(a_o), with [a_f, a_i, a_c, a_o] = x Wx + prev_h Wh + b.

    x: (N, D), prev_h: (N, H), prev_c: (N, H), Wx: (D, 4H), Wh: (H, 4H), b: (4H,), gates stacked f, i, c̃, o.
    Returns next_h: (N, H), next_c: (N, H), cache.
    """
    N, D, H = check_shapes(
        x=(x, "N D"), prev_h=(prev_h, "N H"), prev_c=(prev_c, "N H"), Wx=(Wx, "D 4H"), Wh=(Wh, "H 4H"), b=(b, "4H")
    )
    x, prev_h, prev_c = as_float(x, prev_h, prev_c)
    dtype = float_type(x, prev_h, prev_c, Wx, Wh, b)
    gates = _by_gate((x @ Wx + prev_h @ Wh + b).astype(dtype, copy=False))
    next_h, next_c, tanh_c = np.empty((3, N, H), dtype)
    _lstm_cell(gates, prev_c, next_c, tanh_c, next_h)
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, gates, tanh_c)


def lstm_step_backward(dnext_h, dnext_c, cache):
    """dnext_h, dnext_c: (N, H). Returns dx: (N, D), dprev_h, dprev_c: (N, H), dWx: (D, 4H), dWh: (H, 4H), db: (4H,)."""
    x, prev_h, prev_c, Wx, Wh, gates, tanh_c = cache
    N, H = check_shapes(tanh_c=(tanh_c, "N H"), dnext_h=(dnext_h, "N H"), dnext_c=(dnext_c, "N H"))
    dprev_c = dnext_c.astype(tanh_c.dtype)  # a copy, which the cell changes
    da = np.empty((N, 4 * H), tanh_c.dtype)
    _lstm_cell_backward(dnext_h, dprev_c, gates, prev_c, tanh_c, _by_gate(da))
    dx, dWx, dWh, db = _affine_backward(da, x, prev_h, Wx)
    return dx, da @ Wh.T, dprev_c, dWx, dWh, db


def lstm_forward(x, h0, Wx, Wh, b):
    """T steps of `lstm_step_forward`, from h0 and a cell state of zero.

    x: (T, N, D), h0: (N, H), Wx: (D, 4H), Wh: (H, 4H), b: (4H,). Returns h: (T, N, H), cache (which refers to h).
    """
    T, N, D, H = check_shapes(x=(x, "T N D"), h0=(h0, "N H"), Wx=(Wx, "D 4H"), Wh=(Wh, "H 4H"), b=(b, "4H"))
    dtype = float_type(x, h0, Wx, Wh, b)
    x = as_float(x)[0].reshape(T * N, D)
    h = np.empty((T + 1, N, H), dtype)  # h[t + 1], c[t + 1] are the states after step t
    state = np.empty((6, T + 1, N, H), dtype)  # one array: the system hands out a few large ones faster than many
    gates, c, tanh_c = state[:4, 1:], state[4], state[5]
    h[0], c[0] = h0, 0
    np.matmul(x, _by_gate(Wx), out=gates.reshape(4, T * N, H))
    h_Wh, Wh_rows = _rows(N, 4 * H, dtype), _rows(H, 4 * H, dtype)
    Wh_rows[...] = Wh
    for t in range(T):
        a = gates[:, t]
        a += _by_gate(np.matmul(h[t], Wh_rows, out=h_Wh))
        a += b.reshape(4, 1, H)
        _lstm_cell(a, c[t], c[t + 1], tanh_c[t + 1], h[t + 1])
    return h[1:], (x, h, c, tanh_c, gates, Wx, Wh)


def lstm_backward(dh, cache):
    """Backward through time as in `rnn_backward`; a step passes dprev_c to the one before it too.

    dh: (T, N, H), the gradient that reaches each h[t] from outside.
    Returns dx: (T, N, D), dh0: (N, H), dWx: (D, 4H), dWh: (H, 4H), db: (4H,).
    """
    x, h, c, tanh_c, gates, Wx, Wh = cache
    T, N, H = check_shapes(h=(h[1:], "T N H"), dh=(dh, "T N H"))
    da = np.empty((T, N, 4 * H), h.dtype)
    dprev_h, dprev_c = np.zeros((2, N, H), h.dtype)
    for t in reversed(range(T)):
        _lstm_cell_backward(dh[t] + dprev_h, dprev_c, gates[:, t], c[t], tanh_c[t + 1], _by_gate(da[t]))
        dprev_h = (Wh @ da[t].T).T  # as in rnn_backward
    dx, dWx, dWh, db = _affine_backward(da.reshape(T * N, 4 * H), x, h[:-1].reshape(T * N, H), Wx)
    return dx.reshape(T, N, len(Wx)), np.ascontiguousarray(dprev_h), dWx, dWh, db


# ---- words and scores, (N, T, ...)


def word_embedding_forward(x, W):
    """out[n, t] = W[x[n, t]]. x: (N, T) integers in 0 ... V - 1, W: (V, D). Returns out: (N, T, D), cache.

    Raises IndexError for a word outside the vocabulary, TypeError for words that are not integers.
    """
    N, T, V, D = check_shapes(x=(x, "N T"), W=(W, "V D"))
    check_indices("x", x, V)
    return W[x], (x, W)


def word_embedding_backward(dout, cache):
    """dout: (N, T, D). Returns dW: (V, D): each row the sum of dout over the places where its word stands."""
    x, W = cache
    N, T, V, D = check_shapes(x=(x, "N T"), W=(W, "V D"), dout=(dout, "N T D"))
    dW = np.zeros((V, D), float_type(dout))
    order = np.argsort(x, axis=None, kind="stable")  # equal words side by side
    words, starts = np.unique(x.reshape(N * T)[order], return_index=True)
    dW[words] = np.add.reduceat(dout.reshape(N * T, D)[order], starts)
    return dW


def temporal_fc_forward(x, w, b):
    """The same fully connected layer at each time step: out = x w + b.

    x: (N, T, D), w: (D, M), b: (M,). Returns out: (N, T, M), cache.
    """
    N, T, D, M = check_shapes(x=(x, "N T D"), w=(w, "D M"), b=(b, "M"))
    out, fc_cache = fc_forward(x.reshape(N * T, D), w, b)
    return out.reshape(N, T, M), (x, w, fc_cache)


def temporal_fc_backward(dout, cache):
    """dout: (N, T, M). Returns dx: (N, T, D), dw: (D, M), db: (M,)."""
    x, w, fc_cache = cache
    N, T, D, M = check_shapes(x=(x, "N T D"), w=(w, "D M"), dout=(dout, "N T M"))
    dx, dw, db = fc_backward(dout.reshape(N * T, M), fc_cache)
    return dx.reshape(N, T, D), dw, db


def temporal_softmax_loss(x, y, mask, verbose=False):
    """Cross entropy of each step's scores, summed over time where mask is on, averaged over the minibatch.

    x: (N, T, V) scores, N ≥ 1, y: (N, T) integers in 0 ... V - 1, mask: (N, T) booleans (numbers weight the elements).
    Returns loss, dx: (N, T, V). verbose prints dx's shape.
    Raises IndexError for a word outside the vocabulary, TypeError for words that are not integers.
    """
    N, T, V = check_shapes(x=(x, "N T V"), y=(y, "N T"), mask=(mask, "N T"))
    check_indices("y", y, V)
    if N == 0:
        raise ValueError(f"x has shape {x.shape}: no mean over an empty minibatch")
    weight = mask.reshape(N * T).astype(float_type(x)) / N
    loss, dx = weighted_softmax_loss(x.reshape(N * T, V), y.reshape(N * T), weight)
    dx = dx.reshape(N, T, V)
    if verbose:
        print("dx:", dx.shape)
    return loss, dx


if __name__ == "__main__":
    from tests.gradient_check import print_table

    print_table()
