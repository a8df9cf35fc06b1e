"""Tests that every forward/backward pair must pass; a layer's test class inherits them."""

import numpy as np
import pytest
import torch

from tests.gradient_check import check_layer, relative_error

SIZES = [(4, 3, 5, 6), (1, 3, 5, 6), (4, 1, 5, 6), (4, 3, 1, 6), (4, 3, 5, 1), (1, 1, 1, 1), (7, 2, 3, 9)]  # T, N, D, H

LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided": lambda a: np.stack([a, a], axis=-1)[..., 0],
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


@pytest.mark.filterwarnings("error")  # including numpy's warnings of overflow and NaN
class LayerTests:
    """A subclass defines `functions` (forward, backward), the same function `in_torch`, the names `douts` of backward's
    arguments, and inputs(r, T, N, D, H), which returns forward's arguments; r(shape) draws random numbers."""

    bound = 1e-7  # on the relative error against numeric gradients
    douts = ("dout",)

    def make(self, T=4, N=3, D=5, H=6, seed=0):
        return self.inputs(np.random.default_rng(seed).standard_normal, T, N, D, H)

    def backward(self, *arguments):
        gradients = self.functions[1](*arguments)
        return list(gradients) if isinstance(gradients, tuple) else [gradients]

    def run(self, inputs, layout=np.array):
        """Returns outputs and gradients in one list, and the random gradients of the outputs."""
        *outs, cache = self.functions[0](*inputs.values())
        rng = np.random.default_rng(1)
        douts = [rng.standard_normal(out.shape).astype(out.dtype) for out in outs]
        return [*outs, *self.backward(*map(layout, douts), cache)], douts

    @pytest.mark.parametrize("sizes", SIZES, ids=str)
    def test_gradients_match_numeric_gradients(self, sizes):
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
    def test_memory_layout_does_not_change_results(self, layout):
        inputs, layout = self.make(), LAYOUTS[layout]
        found, _ = self.run({name: layout(a) for name, a in inputs.items()}, layout)
        for a, w in zip(found, self.run(inputs)[0], strict=True):
            assert type(a) is np.ndarray and relative_error(a, w) < 1e-13

    def test_a_cache_survives_another_forward(self):
        inputs = self.make()
        found, douts = self.run(inputs)
        *first, cache = self.functions[0](*inputs.values())
        self.run(self.make(seed=1))
        for _ in range(2):  # a cache can be used twice
            again = [*first, *self.backward(*douts, cache)]
            assert all(np.array_equal(a, w) for a, w in zip(again, found, strict=True))
        assert not any(np.shares_memory(a, b) for a in again for b in [*inputs.values(), *douts])

    @pytest.mark.parametrize("dtype, bound", [(np.float16, 0.05), (np.float32, 1e-5), (np.int8, 1e-13)])
    def test_float_dtypes_are_kept_and_integers_become_float64(self, dtype, bound):
        inputs = self.make()
        given = {k: (3 * a).astype(dtype) for k, a in inputs.items() if a.dtype.kind == "f"}
        exact, _ = self.run({**inputs, **{k: a.astype(np.float64) for k, a in given.items()}})
        for a, w in zip(self.run({**inputs, **given})[0], exact, strict=True):
            assert a.dtype == (np.float64 if dtype == np.int8 else dtype) and relative_error(a, w) < bound

    @pytest.mark.parametrize("T, N", [(0, 3), (4, 0)])
    def test_empty_sequences_and_minibatches_give_zero_gradients(self, T, N):
        inputs = self.make(T=T, N=N)
        gradients = self.run(inputs)[0][len(self.douts) :]
        assert [g.shape for g in gradients] == [a.shape for a in inputs.values() if a.dtype.kind == "f"]
        if any(a.size == 0 for a in inputs.values()):
            assert not any(g.any() for g in gradients)

    def test_a_wrong_shape_raises_a_value_error_with_the_name(self):
        inputs = self.make()
        for name, value in inputs.items():
            for wrong in (value[None], np.repeat(value, 2, axis=-1)) if value.dtype.kind == "f" else ():
                with pytest.raises(ValueError, match=r"^\w+ has shape .*, expected \(") as error:
                    out, cache = self.functions[0](*{**inputs, name: wrong}.values())
                    self.backward(self.run(inputs)[0][0], cache)  # catches a wrong size of the embedding
                assert str(error.value).split()[0] in (*inputs, *self.douts)

    def test_a_wrong_dout_raises_a_value_error_with_the_name(self):
        *outs, cache = self.functions[0](*self.make().values())
        for k, name in enumerate(self.douts):
            for wrong in (outs[k][:-1], outs[k][..., :-1], outs[k][None]):
                with pytest.raises(ValueError, match=rf"^{name} has shape .*, expected "):
                    self.backward(*outs[:k], wrong, *outs[k + 1 :], cache)

    def test_masked_and_complex_arrays_raise_type_errors(self):
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


class SequenceTests(RecurrentTests):
    """A subclass also defines the `step` (forward, backward) and its number of `states`: h, or h and c."""

    bound, douts, states = 1e-6, ("dh",), 1

    @pytest.mark.parametrize("sizes", [(4, 3, 5, 6), (9, 4, 16, 32)], ids=str)
    def test_a_sequence_equals_its_steps_one_by_one(self, sizes):
        x, h0, *weights = self.make(*sizes).values()
        (h, dx, *found), [dh] = self.run(self.make(*sizes))
        states = [h0, np.zeros_like(h0)][: self.states]
        caches = []
        for t in range(len(x)):
            *states, cache = self.step[0](x[t], *states, *weights)
            caches.append(cache)
            assert relative_error(h[t], states[0]) < 1e-12
        dstates, dweights = [np.zeros_like(h0) for _ in states], [0, 0, 0]
        for t in reversed(range(len(x))):
            step_dx, *rest = self.step[1](dh[t] + dstates[0], *dstates[1:], caches[t])
            dstates, dweights = rest[:-3], [total + d for total, d in zip(dweights, rest[-3:], strict=True)]
            assert relative_error(dx[t], step_dx) < 1e-12
        for a, w in zip(found, [dstates[0], *dweights], strict=True):
            assert relative_error(a, w) < 1e-12


def lin(a, b, *shape):
    """np.linspace reshaped, as in the course's checks."""
    return np.linspace(a, b, num=int(np.prod(shape))).reshape(shape)
