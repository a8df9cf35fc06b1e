"""What every pair of forward and backward must do: the tests that a layer's test class inherits."""

import numpy as np
import pytest
import torch

from tests.gradient_check import check_layer, relative_error

SIZES = [(4, 3, 5, 6), (1, 3, 5, 6), (4, 1, 5, 6), (4, 3, 1, 6), (4, 3, 5, 1), (1, 1, 1, 1), (7, 2, 3, 9)]  # T, N, D, H


def strided(a):
    """The same numbers as every second element of a larger array."""
    large = np.zeros([2 * n for n in a.shape], a.dtype)
    view = large[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "a list": lambda a: a.tolist(),
    "a matrix": lambda a: a.view(np.matrix) if a.ndim == 2 else a,
}


def autograd(function, inputs, douts):
    """(outputs, gradients of the float inputs) of a PyTorch function, given the gradients of its outputs."""
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs.values()]
    outs = function(*tensors)
    outs = outs if isinstance(outs, tuple) else (outs,)
    gradients = torch.autograd.grad(outs, [t for t in tensors if t.requires_grad], [torch.tensor(d) for d in douts])
    return [out.detach().numpy() for out in outs], [gradient.numpy() for gradient in gradients]


@pytest.mark.filterwarnings("error")  # numpy's too: an overflow or a NaN fails the test
class LayerTests:
    """A subclass names `functions` (forward, backward), the same function `in_torch`, and the arguments of backward,
    `douts`. Its inputs(r, T, N, D, H) makes the arguments of forward; r(shape) gives random numbers."""

    bound = 1e-7  # of the relative error against numeric differences
    douts = ("dout",)

    def make(self, T=4, N=3, D=5, H=6, seed=0):
        return self.inputs(np.random.default_rng(seed).standard_normal, T, N, D, H)

    def backward(self, *arguments):
        gradients = self.functions[1](*arguments)
        return list(gradients) if isinstance(gradients, tuple) else [gradients]

    def run(self, inputs, layout=np.array):
        """Outputs and gradients in one list, and the random gradients of the outputs."""
        *outs, cache = self.functions[0](*inputs.values())
        rng = np.random.default_rng(1)
        douts = [rng.standard_normal(out.shape).astype(out.dtype) for out in outs]
        return [*outs, *self.backward(*map(layout, douts), cache)], douts

    def assert_same(self, inputs, others, dtype, bound):
        """Both inputs give the same outputs and gradients; those of the first have the dtype."""
        for a, w in zip(self.run(inputs)[0], self.run(others)[0], strict=True):
            assert a.dtype == dtype and relative_error(a, w) < bound

    @pytest.mark.parametrize("sizes", SIZES, ids=str)
    def test_gradients_match_numeric_differences(self, sizes):
        errors = check_layer(*self.functions, **self.make(*sizes))
        assert max(errors.values()) < self.bound, errors

    @pytest.mark.parametrize("sizes", [*SIZES, (12, 10, 20, 30)], ids=str)
    def test_outputs_and_gradients_match_autograd(self, sizes):
        inputs = self.make(*sizes)
        found, douts = self.run(inputs)
        wanted_outs, wanted = autograd(type(self).in_torch, inputs, douts)
        for a, w in zip(found, [*wanted_outs, *wanted], strict=True):
            assert relative_error(a, w) < 1e-11

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_any_layout_gives_the_same(self, layout):
        inputs, layout = self.make(), LAYOUTS[layout]
        found, _ = self.run({name: layout(a) for name, a in inputs.items()}, layout)
        for a, w in zip(found, self.run(inputs)[0], strict=True):
            assert type(a) is np.ndarray and relative_error(a, w) < 1e-13

    def test_two_forwards_do_not_disturb_each_other(self):
        inputs = self.make()
        found, douts = self.run(inputs)
        *first, cache = self.functions[0](*inputs.values())
        self.run(self.make(seed=1))
        for _ in range(2):  # a cache can be used twice
            again = [*first, *self.backward(*douts, cache)]
            assert all(np.array_equal(a, w) for a, w in zip(again, found, strict=True))
        assert not any(np.shares_memory(a, b) for a in again for b in [*inputs.values(), *douts])

    @pytest.mark.parametrize("dtype, bound", [(np.float16, 0.05), (np.float32, 1e-5)])
    def test_the_float_type_stays(self, dtype, bound):
        inputs = self.make()
        rounded = {k: a.astype(dtype) if a.dtype.kind == "f" else a for k, a in inputs.items()}
        self.assert_same(rounded, inputs, dtype, bound)

    def test_integers_are_computed_in_float64(self):
        inputs = self.make()
        small = {k: np.round(9 * a).astype(np.int8) for k, a in inputs.items() if a.dtype.kind == "f"}
        self.assert_same({**inputs, **small}, {**inputs, **{k: 1.0 * a for k, a in small.items()}}, np.float64, 1e-13)

    @pytest.mark.parametrize("T, N", [(0, 3), (4, 0)])
    def test_empty_sequences_and_minibatches_give_zero_gradients(self, T, N):
        inputs = self.make(T=T, N=N)
        gradients = self.run(inputs)[0][len(self.douts) :]
        assert [g.shape for g in gradients] == [a.shape for a in inputs.values() if a.dtype.kind == "f"]
        if any(a.size == 0 for a in inputs.values()):
            assert not any(g.any() for g in gradients)

    def test_a_wrong_shape_is_a_value_error_with_the_name(self):
        inputs = self.make()
        for name, value in inputs.items():
            for wrong in (value[None], np.repeat(value, 2, axis=-1)) if value.dtype.kind == "f" else ():
                with pytest.raises(ValueError, match=r"^\w+ has shape .*, expected \(") as error:
                    out, cache = self.functions[0](*{**inputs, name: wrong}.values())
                    self.backward(self.run(inputs)[0][0], cache)  # another size of the embedding shows here
                assert str(error.value).split()[0] in (*inputs, *self.douts)

    def test_a_wrong_dout_is_a_value_error_with_the_name(self):
        *outs, cache = self.functions[0](*self.make().values())
        for k, name in enumerate(self.douts):
            for wrong in (outs[k][:-1], outs[k][..., :-1], outs[k][None]):
                with pytest.raises(ValueError, match=rf"^{name} has shape .*, expected "):
                    self.backward(*outs[:k], wrong, *outs[k + 1 :], cache)

    def test_masked_arrays_and_complex_numbers_are_type_errors(self):
        inputs = self.make()
        for name, value in inputs.items():
            for wrong, message in ((np.ma.array(value), f"^{name} is a masked array"), (1j * value, "expected ")):
                with pytest.raises(TypeError, match=message):
                    self.functions[0](*{**inputs, name: wrong}.values())


class RecurrentTests(LayerTests):
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_huge_activations_give_finite_results(self, dtype):
        inputs = {name: a.astype(dtype) for name, a in self.make().items()}
        for b in (10_000 * np.sign(inputs["b"]), np.full_like(inputs["b"], 1e4), np.full_like(inputs["b"], -1e4)):
            assert all(np.isfinite(a).all() for a in self.run({**inputs, "b": b})[0])


def lin(a, b, *shape):
    """np.linspace in a shape, as in the course's own checks."""
    return np.linspace(a, b, num=int(np.prod(shape))).reshape(shape)


def assert_sequence_equals_steps(sequence, step, x, h0, weights, states):
    """That outputs and gradients of a sequence equal those of its steps, to 1e-12.

    sequence, step: (forward, backward). states: the step's states at the start, h0 and what comes with it.
    """
    h, cache = sequence[0](x, h0, *weights)
    caches = []
    for t in range(len(x)):
        *states, step_cache = step[0](x[t], *states, *weights)
        caches.append(step_cache)
        assert relative_error(h[t], states[0]) < 1e-12
    dh = np.random.default_rng(5).standard_normal(h.shape)
    dx, dh0, *dweights = sequence[1](dh, cache)
    dstates, sums = [np.zeros_like(state) for state in states], [0, 0, 0]
    for t in reversed(range(len(x))):
        step_dx, *rest = step[1](dh[t] + dstates[0], *dstates[1:], caches[t])
        dstates, sums = rest[:-3], [total + d for total, d in zip(sums, rest[-3:], strict=True)]
        assert relative_error(dx[t], step_dx) < 1e-12
    for a, w in zip([dh0, *dweights], [dstates[0], *sums], strict=True):
        assert relative_error(a, w) < 1e-12


def assert_matches_torch_nn(layer, sequence, x, h0, Wx, Wh, b, reorder=lambda a: a):
    """That a sequence equals torch.nn's RNN or LSTM (a class). reorder: our gates in PyTorch's order."""
    theirs = layer(x.shape[2], h0.shape[1]).double()
    values = [reorder(Wx).T, reorder(Wh).T, reorder(b), 0 * reorder(b)]
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(np.ascontiguousarray(value)))
    tx, th0 = torch.tensor(x, requires_grad=True), torch.tensor(h0[None], requires_grad=True)
    th, _ = theirs(tx, (th0, torch.zeros_like(th0)) if layer is torch.nn.LSTM else th0)
    dh = np.random.default_rng(5).standard_normal(th.shape)
    th.backward(torch.tensor(dh))
    h, cache = sequence[0](x, h0, Wx, Wh, b)
    dx, dh0, dWx, dWh, db = sequence[1](dh, cache)
    wanted = [tx.grad, th0.grad[0], *[p.grad for p in theirs.parameters()][:3]]
    for a, w in zip([dx, dh0, reorder(dWx).T, reorder(dWh).T, reorder(db)], wanted, strict=True):
        assert relative_error(a, w.numpy()) < 1e-11
    assert relative_error(h, th.detach().numpy()) < 1e-11
