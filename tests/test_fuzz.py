"""Layers against PyTorch on arrays that nobody thought of, and readers on files that nobody would write.

FUZZ_EXAMPLES=20000 python -m pytest tests/test_fuzz.py tries so many of each; the default, 50, are the same every time.
"""

import bz2
import contextlib
import copy
import functools
import gzip
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import image_captioning
import layers
import rnn_layers
import sentiment
import transfer_learning
from data import DataError, captions, files, glove, insects, results, reviews, weights
from image_captioning import TorchCaptioningRNN
from rnn import SPECIAL, CaptioningRNN
from tests import runs, test_layers
from tests.conftest import ARCH, random_state
from tests.gradient_check import relative_error
from tests.runs import write
from tests.test_captions import flags, write_coco, write_flickr8k
from tests.test_files import tar_bytes, zip_bytes
from tests.test_hostile import holding_itself, nested
from tests.test_layers import torch_gradients
from tests.test_results import finish, make_run
from tests.test_rnn import plain_beam_search
from tests.test_rnn_layers import LAYERS, TORCH, make, pair

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 50))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


# ---- arrays of any shape, type and layout


LAYOUTS = {
    "plain": np.array,
    **test_layers.LAYOUTS,
    "negative steps": lambda a: np.flip(np.flip(a).copy()),
    "one row many times": lambda a: np.broadcast_to(a[:1], a.shape),
    "one number many times": lambda a: np.broadcast_to(a.reshape(-1)[:1].reshape(()) if a.size else 0 * a, a.shape),
}
dtypes = st.sampled_from([np.float32, np.float64])
layouts = st.lists(st.sampled_from(list(LAYOUTS)), min_size=9, max_size=9)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(*[st.integers(1, 6)] * 4)


def laid_out(arrays, names):
    return [LAYOUTS[name](a) for name, a in zip(names, arrays, strict=False)]


def assert_close(ours, theirs, dtype):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        assert relative_error(a, b) < (1e-3 if dtype == np.float32 else 1e-10)  # 1 - h² loses digits near h = 1


def assert_pair_is_torchs(forward, backward, function, inputs, names, dtype, seed):
    """A layer and its gradients are PyTorch's in float64, of type `dtype`; no input changes."""
    inputs = dict(zip(inputs, laid_out(inputs.values(), names), strict=True))
    before = [a.tobytes() for a in inputs.values()]
    *outs, cache = forward(**inputs)
    rng = np.random.default_rng(seed)
    douts = laid_out([rng.standard_normal(out.shape).astype(dtype) for out in outs], names[::-1])
    douts_before = [d.tobytes() for d in douts]
    gradients = backward(*douts, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    exact = {name: np.array(a, np.float64 if a.dtype.kind == "f" else a.dtype) for name, a in inputs.items()}
    wanted_outs, wanted = torch_gradients(function, exact, [np.array(d, np.float64) for d in douts])
    assert_close(outs, wanted_outs, dtype)
    assert_close(gradients, wanted.values(), dtype)
    assert [a.tobytes() for a in inputs.values()] == before
    assert [d.tobytes() for d in douts] == douts_before


@fuzz
@given(st.sampled_from(LAYERS), sizes, dtypes, layouts, seeds)
def test_recurrent_and_temporal_layers_are_pytorchs_for_any_array(layer, sizes, dtype, names, seed):
    inputs = make(layer, np.random.default_rng(seed), *sizes, dtype=dtype)
    assert_pair_is_torchs(*pair(layer), TORCH[layer], inputs, names, dtype, seed)


@fuzz
@given(
    st.integers(0, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 5), dtypes, layouts, seeds
)
def test_the_fully_connected_layer_is_pytorchs_for_any_array(N, shape, M, dtype, names, seed):
    r, D = np.random.default_rng(seed).standard_normal, int(np.prod(shape))
    inputs = {"x": r((N, *shape)).astype(dtype), "w": r((D, M)).astype(dtype), "b": r(M).astype(dtype)}
    assert_pair_is_torchs(
        layers.fc_forward, layers.fc_backward, lambda x, w, b: x.reshape(N, D) @ w + b, inputs, names, dtype, seed
    )


@fuzz
@given(st.lists(st.integers(0, 5), max_size=4), st.floats(0, 0.9), dtypes, layouts, seeds)
def test_dropout_multiplies_by_its_cache_whatever_the_array(shape, p, dtype, names, seed):
    r = np.random.default_rng(seed)
    assume(shape)
    x, dout = laid_out([r.standard_normal(shape).astype(dtype) for _ in range(2)], names)
    out, cache = layers.dropout_forward(x, p, np.random.default_rng(seed))
    dx = layers.dropout_backward(dout, cache)
    kept = cache != 0
    assert out.dtype == dx.dtype == dtype and out.shape == dx.shape == x.shape
    assert not out[~kept].any() and not dx[~kept].any()
    for a, b in ((out, x), (dx, dout)):
        np.testing.assert_allclose(a[kept], b[kept] / (1 - p), rtol=1e-5)


@fuzz
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.floats(-6, 6), dtypes, layouts, seeds)
def test_the_sigmoid_is_pytorchs_for_any_array(shape, power, dtype, names, seed):
    x = np.random.default_rng(seed).standard_normal(shape) * 10**power
    x = LAYOUTS[names[0]](x.astype(dtype))
    out = layers.sigmoid(x)
    assert out.dtype == dtype
    np.testing.assert_allclose(out, torch.sigmoid(torch.tensor(np.array(x)).double()), rtol=1e-5, atol=1e-37)


def torch_loss(x, y, weight):
    """(loss, dx) of softmax cross entropy by PyTorch in float64, each row of x weighted."""
    x = torch.tensor(np.array(x, np.float64), requires_grad=True)
    losses = torch.nn.functional.cross_entropy(
        x.reshape(-1, x.shape[-1]), torch.tensor(np.array(y, np.int64).reshape(-1)), reduction="none"
    )
    loss = (losses * torch.tensor(np.array(weight, np.float64).reshape(-1))).sum()
    return loss.item(), torch.autograd.grad(loss, x)[0].numpy()


MASKS = {
    "all": lambda r, shape: np.ones(shape, bool),
    "none": lambda r, shape: np.zeros(shape, bool),
    "some": lambda r, shape: r.random(shape) < 0.5,
    "weights": lambda r, shape: r.random(shape),
    "float32 zeros and ones": lambda r, shape: (r.random(shape) < 0.5).astype(np.float32),
    "integers": lambda r, shape: r.integers(0, 2, shape),
}
masks, integers = st.sampled_from(list(MASKS)), st.sampled_from([np.int8, np.uint8, np.int32, np.int64, np.uint64])


def assert_loss_is_torchs(found, wanted, dtype):
    (loss, dx), (wanted_loss, wanted_dx) = found, wanted
    assert dx.dtype == dtype and np.asarray(loss).dtype == dtype
    assert loss == pytest.approx(wanted_loss, rel=1e-5 if dtype == np.float32 else 1e-11, abs=1e-7)
    assert relative_error(dx, wanted_dx) < (1e-5 if dtype == np.float32 else 1e-11)


@fuzz
@given(sizes, st.integers(0, 4), masks, integers, st.floats(-3, 2), dtypes, layouts, seeds)
def test_the_temporal_loss_is_pytorchs_for_any_array_and_mask(sizes, T, mask, integer, power, dtype, names, seed):
    r, (N, V, *_) = np.random.default_rng(seed), sizes
    x = (r.standard_normal((N, T, V)) * 10**power).astype(dtype)
    x, y, mask = laid_out([x, r.integers(0, V, (N, T)).astype(integer), MASKS[mask](r, (N, T))], names)
    before = x.tobytes(), y.tobytes(), mask.tobytes()
    assert_loss_is_torchs(
        rnn_layers.temporal_softmax_loss(x, y, mask), torch_loss(x, y, mask.astype(np.float64) / N), dtype
    )
    assert (x.tobytes(), y.tobytes(), mask.tobytes()) == before


@fuzz
@given(sizes, integers, st.floats(-3, 2), dtypes, layouts, seeds)
def test_the_softmax_loss_is_pytorchs_for_any_array(sizes, integer, power, dtype, names, seed):
    r, (N, V, *_) = np.random.default_rng(seed), sizes
    x, y = laid_out([(r.standard_normal((N, V)) * 10**power).astype(dtype), r.integers(0, V, N).astype(integer)], names)
    assert_loss_is_torchs(layers.softmax_loss(x, y), torch_loss(x, y, np.full(N, 1 / N)), dtype)


def reshaped(a, axis, size):
    """`a` with one axis taken away (size None), a new one (size -1), or one of another size."""
    if size == -1:
        return np.expand_dims(a, axis % (a.ndim + 1))
    axis %= a.ndim
    if size is None:
        return a[(slice(None),) * axis + (0,)]
    return np.resize(a, [size if k == axis else n for k, n in enumerate(a.shape)])


SHAPED = {
    **{name: (*pair(name), lambda r, name=name, **sizes: make(name, r, *sizes.values())) for name in LAYERS},
    "fc": (
        layers.fc_forward,
        layers.fc_backward,
        lambda r, T, N, D, H: {"x": r.random((N, T, D)), "w": r.random((T * D, H)), "b": r.random(H)},
    ),
}
LOSSES = {
    "softmax_loss": (
        layers.softmax_loss,
        lambda r, T, N, D, H: {"x": r.random((N, H)), "y": r.integers(0, H, N)},
    ),
    "temporal_softmax_loss": (
        rnn_layers.temporal_softmax_loss,
        lambda r, T, N, D, H: {"x": r.random((N, T, H)), "y": r.integers(0, H, (N, T)), "mask": np.ones((N, T))},
    ),
}  # fmt: skip
changes = st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([None, -1, 0, 1, 2, 3, 4, 5, 8]))


def changed_shape(inputs, change):
    """The inputs, one of them of another shape."""
    which, axis, size = change
    name = list(inputs)[which % len(inputs)]
    wrong = reshaped(inputs[name], axis, size)
    assume(wrong.shape != inputs[name].shape)
    return {**inputs, name: wrong}


@fuzz
@given(st.sampled_from(list(SHAPED)), sizes, changes, seeds)
def test_a_wrong_shape_is_a_value_error_that_names_an_argument(layer, sizes, change, seed):
    forward, backward, make_inputs = SHAPED[layer]
    inputs = make_inputs(np.random.default_rng(seed), **dict(zip("TNDH", sizes, strict=True)))
    inputs = changed_shape(inputs, change)
    try:
        *outs, cache = forward(**inputs)
    except ValueError as error:
        assert str(error).split(" ")[0] in inputs and " has shape " in str(error)
    except IndexError as error:  # fewer words in W than x speaks of
        assert layer == "word_embedding" and str(error).startswith("x[")
    else:  # the shapes fit after all, as with another V in W: then so do the gradients'
        gradients = backward(*outs, cache)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        floats = [a for a in inputs.values() if a.dtype.kind == "f"]
        assert [g.shape for g in gradients] == [a.shape for a in floats]


@fuzz
@given(st.sampled_from(list(SHAPED)), sizes, changes, seeds)
def test_a_wrong_dout_is_a_value_error_that_names_it(layer, sizes, change, seed):
    forward, backward, make_inputs = SHAPED[layer]
    inputs = make_inputs(np.random.default_rng(seed), **dict(zip("TNDH", sizes, strict=True)))
    *outs, cache = forward(**inputs)
    douts = changed_shape({str(k): out for k, out in enumerate(outs)}, change)
    with pytest.raises(ValueError, match=r"^d(out|h|next_h|next_c) has shape "):
        backward(*douts.values(), cache)


@fuzz
@given(st.sampled_from(list(LOSSES)), sizes, changes, seeds)
def test_a_wrong_shape_in_a_loss_is_a_value_error_that_names_an_argument(name, sizes, change, seed):
    loss_function, make_inputs = LOSSES[name]
    inputs = changed_shape(make_inputs(np.random.default_rng(seed), **dict(zip("TNDH", sizes, strict=True))), change)
    try:
        _, dx = loss_function(**inputs)
    except ValueError as error:
        assert str(error).split(" ")[0] in inputs and " has shape " in str(error)
    except IndexError as error:  # fewer scores than y speaks of
        assert str(error).startswith("y[")
    else:
        assert dx.shape == inputs["x"].shape


# ---- the captioning model


def captioning_model(cell, words, D, W, H, dtype, seed):
    """A model of any size with parameters large enough that its words depend on the photo and on one another."""
    names = {word: k for k, word in enumerate([*SPECIAL[:3], *(f"word{k}" for k in range(words))])}
    model, rng = CaptioningRNN(names, D, W, H, cell, dtype, seed), np.random.default_rng(seed)
    model.params = {name: rng.standard_normal(w.shape).astype(dtype) for name, w in model.params.items()}
    return model, rng


cells, model_sizes = st.sampled_from(["rnn", "lstm"]), st.tuples(*[st.integers(1, 6)] * 4)


@fuzz
@given(cells, model_sizes, st.integers(1, 5), st.integers(1, 7), dtypes, layouts, seeds)
def test_the_captioning_loss_is_its_twins_at_any_size(cell, sizes, N, T, dtype, names, seed):
    model, rng = captioning_model(cell, *sizes, dtype, seed)
    words = rng.integers(2, len(model.word_to_idx), (N, T + 1))
    words[:, 0] = model.start
    for row, length in zip(words, rng.integers(1, T + 1, N), strict=True):
        row[length + 1 :] = model.null
    features = rng.standard_normal((N, sizes[1])).astype(dtype)
    features, words = laid_out([features, words], names)
    loss, grads = model.loss(features, words)
    twin = TorchCaptioningRNN(model).double()
    exact = twin.loss(torch.tensor(np.array(features)).double(), torch.tensor(np.array(words)))
    exact.backward()
    wanted = {name: w.grad.numpy() for name, w in twin.named_parameters()}
    bound = 1e-4 if dtype == np.float32 else 1e-10
    assert grads.keys() == wanted.keys() == model.params.keys()
    assert loss == pytest.approx(exact.item(), rel=bound)
    largest = max(abs(grad).max() for grad in wanted.values())  # 1 - h² loses digits near h = 1, where it is small
    for name, grad in grads.items():
        assert grad.dtype == dtype
        np.testing.assert_allclose(grad, wanted[name], rtol=bound, atol=bound * largest, err_msg=name)


@fuzz
@given(cells, model_sizes, st.integers(0, 4), st.integers(1, 5), st.integers(1, 4), seeds)
def test_a_beam_search_is_the_plain_one_at_any_size(cell, sizes, N, most, width, seed):
    model, rng = captioning_model(cell, *sizes, np.float64, seed)
    features = rng.standard_normal((N, sizes[1]))
    expected = [plain_beam_search(model, feature, width, most, 0.7) for feature in features]
    assert model.beam_search(features, width, most).tolist() == expected


@fuzz
@given(cells, model_sizes, st.integers(0, 4), st.integers(1, 6), dtypes, layouts, seeds)
def test_a_sample_is_a_beam_of_one_at_any_size(cell, sizes, N, most, dtype, names, seed):
    model, rng = captioning_model(cell, *sizes, dtype, seed)
    features = LAYOUTS[names[0]](rng.standard_normal((N, sizes[1])).astype(dtype))
    said = model.sample(features, most)
    assert said.shape == (N, most)
    assert np.array_equal(said, model.beam_search(features, 1, most))


# ---- files: how they are spoiled


def of_lines(edit):
    """The edit of bytes that `edit(lines, at, to, new)` does to the list of its lines."""

    def edit_bytes(content, at, to, new):
        lines = content.split(b"\n")
        edit(lines, at % len(lines), to % len(lines), new)
        return b"\n".join(lines)

    return edit_bytes


def swap_lines(lines, at, to, new):
    lines[at], lines[to] = lines[to], lines[at]


def set_field(lines, at, to, new, mark=b" "):
    fields = lines[at].split(mark)
    fields[to % len(fields)] = new
    lines[at] = mark.join(fields)


def swap_chunks(content, at, to, new):
    a, b = sorted((at, to))
    size = 1 + len(new)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


EDITS = {
    "flip": lambda content, at, to, new: content[:at] + bytes(b ^ (1 + to % 255) for b in content[at : at + 1])
    + content[at + 1 :],
    "cut off": lambda content, at, to, new: content[:at],
    "take out": lambda content, at, to, new: content[: min(at, to)] + content[max(at, to) :],
    "insert": lambda content, at, to, new: content[:at] + new + content[at:],
    "write over": lambda content, at, to, new: content[:at] + new + content[at + len(new) :],
    "double": lambda content, at, to, new: content[: max(at, to)] + content[min(at, to) :],
    "swap": swap_chunks,
    "swap lines": of_lines(swap_lines),
    "other line": of_lines(lambda lines, at, to, new: lines.__setitem__(at, new)),
    "line twice": of_lines(lambda lines, at, to, new: lines.insert(to, lines[at])),
    "drop line": of_lines(lambda lines, at, to, new: lines.pop(at)),
    "other word": of_lines(set_field),
    "other field": of_lines(partial(set_field, mark=b"\t")),
}  # fmt: skip
ODD_BYTES = [
    b"", b"\0", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\n", b"\r", b"\r\n", b"\t", b" ", b"\xff", b"\xef\xbb\xbf",
    "\u2028".encode(), "\u3000".encode(), "\x85".encode(), b"\xed\xa0\x80", b"nan", b"inf", b"-1", b"0", b"1e999",
    b"1" * 5000, b"0 ", b"1 ", b'"', b"[", b"{}", b"null", b"\\ud800", b"../", b"/", b"#", b"x" * 300, b"1_0",
    "\u0663".encode(), b"\x1b[2J",
]  # fmt: skip
places = st.integers(0, 2**24) | st.integers(-300, 300)  # the ends of a file hold more that can go wrong
news = st.sampled_from(ODD_BYTES) | st.binary(max_size=9)
edits = st.lists(st.tuples(st.sampled_from(list(EDITS)), places, places, news), max_size=4)


def edited(valid, edits):
    """The bytes `valid` after these edits. Each is a name of EDITS, two places and new bytes."""
    for name, at, to, new in edits:
        size = len(valid) + 1
        valid = EDITS[name](valid, at % size, to % size, new)
    return valid


class Junk(bytes):
    """The whole file, and not an edit of a valid one."""


spoiled_bytes = edits | st.binary(max_size=200).map(Junk)


def spoil(valid, how):
    """A valid file's bytes, spoiled: edited, or replaced."""
    return bytes(how) if isinstance(how, Junk) else edited(valid, how)


ODD_JSON = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, -0.0, float("nan"), float("inf"), 1e-300, "", " ", "a\nb",
    "\u2028", "\x1b[2J", "\0", "\ud800", "x" * 5000, "../../x", "/", [], {}, [[]], [{}], {"a": []}, ["a", "b"], [1, 2],
]  # fmt: skip
ODD_IN_JSON = {repr(value)[:40]: lambda value=value: copy.deepcopy(value) for value in ODD_JSON}
ODD_VALUES = {
    **ODD_IN_JSON,
    "bytes": lambda: b"bytes", "tuple": lambda: (1, "a"), "set": lambda: {1, 2}, "complex": lambda: 1j,
    "huge number": lambda: 10**5000, "endless list": holding_itself, "deep list": lambda: nested(300),
    "ordered": lambda: OrderedDict(a=1), "number keys": lambda: {0: 1, None: 2, "a\nb": torch.zeros(1)},
    "no numbers": lambda: torch.zeros(0), "one number": lambda: torch.tensor(5.0), "whole": lambda: torch.arange(3),
    "NaN": lambda: torch.full((2, 3), torch.nan), "bool": lambda: torch.ones(2, dtype=torch.bool),
    "half": lambda: torch.ones(3).half(), "bfloat": lambda: torch.ones(3, dtype=torch.bfloat16),
    "complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "expanded": lambda: torch.zeros(1).expand(10**12), "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.ones(2, device="meta"), "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "dtype": lambda: torch.float32, "size": lambda: torch.Size([1, 2]), "device": lambda: torch.device("cpu"),
    "float8": lambda: torch.ones(2).to(torch.float8_e4m3fn), "sevenfold": lambda: torch.zeros([1] * 7),
    "no rows": lambda: torch.zeros(0, 3), "no columns": lambda: torch.zeros(3, 0),
}  # fmt: skip
TWISTS = {  # what may be done to a tensor that is there
    "transposed": lambda t: t.T if t.ndim == 2 else t.flip(0) if t.ndim else t,
    "doubled": lambda t: torch.cat([t, t]) if t.ndim else t,
    "cut": lambda t: t[:-1] if t.ndim else t,
    "whole": lambda t: t.long() if not t.is_complex() else t,
    "float64": lambda t: t.double(),
    "NaN": lambda t: t * torch.nan,
    "huge": lambda t: torch.full_like(t, 3e38) if t.is_floating_point() else t,
    "strided": lambda t: torch.stack([t, t], -1)[..., 0],
    "one number": lambda t: t.flatten()[:1].expand(t.shape) if t.numel() else t,
    "axis more": lambda t: t[None],
}


class Spoiled:
    """Content with some of its parts changed; `changes` says which, as a failing example is too long to read."""

    def __init__(self, content):
        self.root, self.changes = {"": copy.deepcopy(content)}, []

    def __repr__(self):
        return f"Spoiled({self.changes})"

    @property
    def content(self):
        return self.root[""]


@st.composite
def spoiled_content(draw, make_content, odd=ODD_VALUES):
    """`make_content()`, dicts and lists of values, with up to three parts replaced, twisted, removed or renamed."""
    spoiled = Spoiled(make_content())
    for _ in range(draw(st.integers(0, 3))):
        holder, key = spoiled.root, ""
        while isinstance(holder[key], (dict, list)) and holder[key] and draw(st.integers(0, 3)):
            holder = holder[key]
            key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        how = draw(st.sampled_from(["replace", "twist", "remove", "double", "rename"]))
        value, new = holder[key], None
        if how == "twist" and isinstance(value, torch.Tensor) and value.layout == torch.strided:
            new = draw(st.sampled_from(list(TWISTS)))
            with contextlib.suppress(RuntimeError, NotImplementedError):  # not all can be done to odd types
                holder[key] = TWISTS[new](value)
        elif how == "twist" and isinstance(value, (int, float)):
            new = draw(st.sampled_from([-1, 1, 1000]))
            holder[key] = value + new
        elif how == "remove" and key != "":
            del holder[key]
        elif how == "double" and isinstance(holder, list):
            holder.append(value)
        elif how in ("double", "rename") and key != "" and isinstance(holder, dict):
            new = draw(st.sampled_from(["a\nb", "x", "0", f"{key}.weight", "\ud800"]))
            holder[new] = value if how == "double" else holder.pop(key)
        else:
            how, new = "replace", draw(st.sampled_from(list(odd)))
            holder[key] = odd[new]()
        spoiled.changes.append((how, key, new))
    return spoiled


def saved(content):
    """The bytes that torch.save makes of `content`."""
    try:
        return runs.saved(content)
    except Exception:  # it does not save everything that is odd
        assume(False)


def with_pickle(file, how):
    """A file of torch.save, its pickle spoiled, and its check sums right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, spoil(content, how) if name.endswith("data.pkl") else content)
    return out.getvalue()


# ---- files: what is claimed


@contextlib.contextmanager
def silence():
    """Fails where anything is written to stderr, by Python, a warning or a C library."""
    with tempfile.TemporaryFile() as written, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)  # as in a script that is run
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
        written.seek(0)
        assert written.read() == b""
        assert [str(warning.message) for warning in seen] == []


def read_or_refused(read, *arguments):
    """What `read` gives, or None where it refuses with a DataError of one line. Nothing else may come."""
    with silence():
        try:
            return read(*arguments)
        except DataError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            return None


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# ---- text


REVIEWS = "1 a good film , \u00e9t\u00e9\n0 not good\n1 _num_ stars\n0 bad , bad film\n".encode()


@fuzz
@given(spoiled_bytes)
def test_labelled_sentences_are_read_or_refused(place, how):
    found = read_or_refused(reviews.read_labelled, write(place / "train.txt", spoil(REVIEWS, how)))
    if found:
        assert len(found.sentences) == len(found.labels) > 1
        assert all(found.sentences) and set(found.labels) == {0, 1}


@fuzz
@given(spoiled_bytes, st.sampled_from([str.split, reviews.tokenize]))
def test_unlabelled_sentences_are_read_or_refused(place, how, split):
    found = read_or_refused(reviews.read_unlabelled, write(place / "unlabelled.txt", spoil(REVIEWS, how)), split)
    assert found is None or all(found.sentences)


GLOVE = b"3 2\nfilm 0.5 -1.25\ngood 1e-3 2\nbad -.5 7\n"


@fuzz
@given(spoiled_bytes, st.booleans())
def test_word_vectors_are_read_or_refused(place, how, header):
    path = write(place / "glove.txt", spoil(GLOVE if header else GLOVE[4:], how))
    found = read_or_refused(glove.load, ["good", "film", "\u00e9t\u00e9"], [], None, path, place)
    if found:
        assert found.vectors.dtype == np.float32 and np.isfinite(found.vectors).all()
        assert len(found.vectors) == len(found.found) == 3 and found.found.any()


def assert_captions_fit(data):
    """The parts of a CaptionSet go together."""
    V = len(data.idx_to_word)
    for split in captions.SPLITS:
        rows, idxs = data.captions[split], data.image_idxs[split]
        assert len(rows) == len(idxs) and len(data.pictures[split]) == len(data.references[split]) > 0
        assert rows.min() >= 0 and rows.max() < V and (rows[:, 0] == captions.START).all()
        assert set(idxs) == set(range(len(data.pictures[split])))
        assert all(words for photo in data.references[split] for words in photo)


@pytest.fixture(scope="module")
def flickr8k(place):
    """A tiny Flickr8k whose network is loaded once, as each example would load the same."""
    built_in = weights.load(captions.BUILTIN_ARCH, "builtin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captions, "choose_weights", lambda args, real: built_in)
        patch.setattr(weights.Weights, "fingerprint", "fuzz")
        yield write_flickr8k(place / "flickr8k", {"train": 8, "val": 2, "test": 2})


@contextlib.contextmanager
def spoiled_file(path, content):
    """`path` holds `content` while the block runs."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@fuzz
@given(st.sampled_from(["Flickr8k.token.txt", *captions.LISTS.values()]), spoiled_bytes)
def test_a_set_of_captions_is_read_or_refused(flickr8k, name, how):
    path = flickr8k / name
    with spoiled_file(path, spoil(path.read_bytes(), how)):
        data = read_or_refused(captions.read_flickr8k, flickr8k, "tiny", True, flags(), flickr8k.parent, "cpu")
    if data:
        assert_captions_fit(data)


@fuzz
@given(spoiled_bytes)
def test_captions_of_ones_own_are_read_or_refused(flickr8k, how):
    file = write(flickr8k.parent / "own.txt", spoil((flickr8k / "Flickr8k.token.txt").read_bytes(), how))
    data = read_or_refused(captions.read_own, flickr8k / "images", file, flags(), flickr8k.parent, "cpu")
    if data:
        assert_captions_fit(data)


# ---- h5


@pytest.fixture(scope="module")
def coco(place):
    return write_coco(place / "coco_captioning")


def load_coco(folder):
    data = captions.read_coco(folder, "pca")
    data.load_features()
    return data


COCO_FILES = [
    "captions.h5",
    "train2014_vgg16_fc7_pca.h5",
    "val2014_vgg16_fc7_pca.h5",
    "vocab.json",
    "train2014_urls.txt",
]


@fuzz
@given(st.sampled_from(COCO_FILES), spoiled_bytes)
def test_the_h5_files_are_read_or_refused(coco, name, how):
    path = coco / (name if "2014" in name else f"coco2014_{name}")
    with spoiled_file(path, spoil(path.read_bytes(), how)):
        data = read_or_refused(load_coco, coco)
    if data:
        assert_captions_fit(data)
        for split, features in data.features.items():
            assert features.dtype == np.float32 and len(features) == len(data.pictures[split])


# ---- photos


def photo_bytes(format, mode="RGB", **options):
    levels = np.random.default_rng(1).integers(0, 256, (9, 14, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def exif():
    found = Image.Exif()
    found[0x0112], found[0x010E], found[0x8769] = 6, "a photo", {0x9003: "2020:01:01 00:00:00"}
    return found


PHOTOS = {
    "jpeg": lambda: photo_bytes("JPEG", exif=exif()),
    "progressive": lambda: photo_bytes("JPEG", "CMYK", progressive=True),
    "png": lambda: photo_bytes("PNG", "RGBA", exif=exif()),
    "palette": lambda: photo_bytes("PNG", "P", transparency=3),
    "16 bit": lambda: photo_bytes("PNG", "I;16"),
    "gif": lambda: photo_bytes("GIF", "P"),
    "webp": lambda: photo_bytes("WEBP", exif=exif()),
    "tiff": lambda: photo_bytes("TIFF", compression="tiff_lzw"),
    "tiff in jpeg": lambda: photo_bytes("TIFF", compression="jpeg"),
    "float tiff": lambda: photo_bytes("TIFF", "F"),
    "bmp": lambda: photo_bytes("BMP"),
    "ico": lambda: photo_bytes("ICO", "RGBA", sizes=[(14, 9)]),
    "ppm": lambda: photo_bytes("PPM"),
    "tga": lambda: photo_bytes("TGA", "RGBA"),
    "pcx": lambda: photo_bytes("PCX"),
    "jpeg 2000": lambda: photo_bytes("JPEG2000"),
    "dds": lambda: photo_bytes("DDS"),
    "icns": lambda: photo_bytes("ICNS"),
    "psd": lambda: b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x08\0\3" + bytes(12) + b"\0\0" + bytes(12),
}
HEADS = [content()[:40] for content in PHOTOS.values()]


@fuzz
@given(st.sampled_from(list(PHOTOS)), spoiled_bytes)
def test_a_photo_is_read_or_refused(place, format, how):
    image = read_or_refused(insects.open_photo, write(place / "photo", spoil(PHOTOS[format](), how)))
    if image:
        assert image.mode == "RGB" and min(image.size) > 0


@fuzz
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_a_photo_that_only_begins_like_one_is_read_or_refused(place, head, rest):
    image = read_or_refused(insects.open_photo, write(place / "photo", head + rest))
    if image:
        assert image.mode == "RGB" and min(image.size) > 0


# ---- archives


MEMBERS = {"a.txt": b"some text" * 20, "folder/b.bin": bytes(range(256)), "folder/" + "\u00e9" * 60: b""}
ARCHIVES = {
    "zip": (zip_bytes(MEMBERS), bytes),
    "tar": (tar_bytes(MEMBERS), bytes),
    "gnu tar": (tar_bytes(MEMBERS, format=tarfile.GNU_FORMAT), bytes),
    "tar.gz": (tar_bytes(MEMBERS), gzip.compress),  # spoiled before it is compressed
    "tar.bz2": (tar_bytes(MEMBERS), bz2.compress),
    "gz": (gzip.compress(tar_bytes(MEMBERS)), bytes),
}
MOST = 20_000


@fuzz
@given(st.sampled_from(list(ARCHIVES)), spoiled_bytes)
def test_an_archive_is_unpacked_inside_of_its_folder_or_refused(place, kind, how):
    content, compress = ARCHIVES[kind]
    path = write(place / "archive", compress(spoil(content, how)))
    outside = sorted(place.rglob("*"))
    out = place / "out"
    try:
        read_or_refused(files.unpack, path, out / "in", MOST)
        written = [entry for entry in out.rglob("*") if not entry.is_dir()]
        assert all(entry.is_file() and not entry.is_symlink() for entry in written)
        assert sum(entry.stat().st_size for entry in written) <= MOST
    finally:
        shutil.rmtree(out, ignore_errors=True)
    assert sorted(place.rglob("*")) == outside


# ---- tensors: weights, checkpoints, models


def fuzz_net(arch, outputs):
    """What `weights.build` gives for the architecture "fuzz_net": torchvision's are too large for many examples."""
    if arch != "fuzz_net":
        raise ValueError(f"Unknown model {arch}")
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs)
    )


@pytest.fixture
def _tiny_networks(monkeypatch):
    monkeypatch.setattr(weights, "build", fuzz_net)


tiny_networks = pytest.mark.usefixtures("_tiny_networks")


@functools.cache
def tiny_weights():
    return random_state("fuzz_net", 3)


def read_weights(place, content):
    found = read_or_refused(weights.read, write(place / "weights.pth", content), "fuzz_net")
    if found:
        assert all(value.dtype == torch.float32 for value in found.state.values() if value.is_floating_point())
        with silence():
            found.network()


@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_weights_are_read_or_refused(place, how):
    read_weights(place, spoil(saved(tiny_weights()), how))


@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_weights_of_a_spoiled_pickle_are_read_or_refused(place, how):
    read_weights(place, with_pickle(saved(tiny_weights()), how))


@tiny_networks
@fuzz
@given(spoiled_content(tiny_weights))
def test_weights_of_odd_content_are_read_or_refused(place, spoiled):
    read_weights(place, saved(spoiled.content))


IDENTITY = {"epochs": 3, "data": "some photos", "lr": 0.1, "layers": ["a", "b"]}
STATE = {"epoch": 2, "model": {"w": torch.ones(2, 3), "b": torch.zeros(3)}, "history": [[0.5, 0.25]], "best": None}
CHECKPOINT = {"identity": IDENTITY, "state": STATE}


def load_checkpoint(place, content):
    checkpoint = results.Checkpoint(write(place / "checkpoint-x.pt", content), IDENTITY)
    assert isinstance(read_or_refused(checkpoint.load), (dict, type(None)))


@fuzz
@given(spoiled_bytes)
def test_a_checkpoint_is_read_or_refused(place, how):
    load_checkpoint(place, spoil(saved(CHECKPOINT), how))


@fuzz
@given(spoiled_bytes)
def test_a_checkpoint_of_a_spoiled_pickle_is_read_or_refused(place, how):
    load_checkpoint(place, with_pickle(saved(CHECKPOINT), how))


@fuzz
@given(spoiled_content(lambda: CHECKPOINT))
def test_a_checkpoint_of_odd_content_is_read_or_refused(place, spoiled):
    load_checkpoint(place, saved(spoiled.content))


def sentiment_file():
    """What sentiment.py saves of its five models, all tiny."""
    words = ["<pad>", "<unk>", "good", "bad"]
    built = {
        name: sentiment.BagOfWords(4) if name == "bag" else recipe.model(
            4, 2, **({"hidden": 3} if issubclass(recipe.model, sentiment.RNN) else {})
        )
        for name, recipe in sentiment.RECIPES.items()
    }  # fmt: skip
    about = {"script": "sentiment", "data": "some sentences", "weights": "some vectors", "vocabulary": words}
    return {**about, "models": {name: sentiment.saved_model(model) for name, model in built.items()}}


def captioning_file(cell="lstm"):
    """What image_captioning.py saves of a tiny model."""
    model = CaptioningRNN({word: k for k, word in enumerate([*SPECIAL, "dog"])}, 4, 3, 2, cell)
    about = {"script": "image_captioning", "cell": cell, "data": "some photos", "vocabulary": [*SPECIAL, "dog"]}
    about |= {"features": "a network", "arch": ARCH, "builtin": True, "features_id": "0123", "mean": torch.zeros(4)}
    return {**about, "spread": 1.5, "params": {name: torch.from_numpy(w) for name, w in model.params.items()}}


def transfer_file():
    """What transfer_learning.py saves of a model."""
    model = weights.build("fuzz_net", 2)
    transfer_learning.replace_head(model, 2)
    about = {"script": "transfer_learning", "scenario": "freeze", "arch": "fuzz_net", "data": "some photos"}
    return {**about, "classes": ["ants", "bees"], "val_size": 32, "state": model.state_dict()}


def use_sentiment(models, saved):
    encoded = sentiment.Encoded([["good"], ["bad", "film"]], saved["vocabulary"])
    for model in models.values():
        assert sentiment.predict(model, encoded).shape == (2,)


def use_captioning(model, saved):
    features = captions.scaled(np.ones((2, len(saved["mean"])), np.float32), (saved["mean"].numpy(), saved["spread"]))
    with np.errstate(all="ignore"):  # weights near the largest of all numbers
        for row in model.beam_search(features, 2, 4, unk=False):
            image_captioning.sentence(row, saved["vocabulary"])
    assert isinstance(saved["data"] + saved["features"] + image_captioning.NAMES[saved["cell"]], str)


def use_transfer(model, saved):
    with torch.inference_mode():
        assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, len(saved["classes"]))


MODELS = {
    "sentiment": (sentiment_file, sentiment.load_models, use_sentiment),
    "captioning": (captioning_file, image_captioning.load_model, use_captioning),
    "transfer": (transfer_file, transfer_learning.load_model, use_transfer),
}
each_model = pytest.mark.parametrize("kind", MODELS)


@functools.cache
def model_file(kind):
    torch.manual_seed(0)
    return MODELS[kind][0]()


def load_model(place, kind, content):
    _, load, use = MODELS[kind]
    found = read_or_refused(load, write(place / "model.pt", content))
    if found:
        use(*found)


@each_model
@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_a_model_is_read_or_refused(place, kind, how):
    load_model(place, kind, spoil(saved(model_file(kind)), how))


@each_model
@tiny_networks
@fuzz
@given(spoiled_bytes)
def test_a_model_of_a_spoiled_pickle_is_read_or_refused(place, kind, how):
    load_model(place, kind, with_pickle(saved(model_file(kind)), how))


@each_model
@tiny_networks
@fuzz
@given(st.data())
def test_a_model_of_odd_content_is_read_or_refused(place, kind, data):
    load_model(place, kind, saved(data.draw(spoiled_content(partial(model_file, kind))).content))


@each_model
def test_a_model_file_that_is_one_tensor_is_refused_without_a_warning(place, kind):
    assert read_or_refused(MODELS[kind][1], write(place / "model.pt", saved(torch.ones(3)))) is None


# ---- results.json


@pytest.fixture(scope="module")
def run_folder(place):
    """The folder of a finished run."""
    with make_run(place / "results") as run:
        finish(run)
    return run.folder


def read_results(folder, content):
    """results.json, as the overview, a resumed run and the next run take it."""
    path = folder / "results.json"
    with spoiled_file(path, content), contextlib.redirect_stdout(io.StringIO()) as out:
        read_or_refused(results.main, [str(folder.parent)])
        resumed = make_run(folder.parent, resume=True)
        if read_or_refused(lambda: resumed._take_up() or resumed.finished):
            with silence():
                results.show_results(resumed.finished, folder)
        with silence():
            resumed._outdated()
    out.getvalue().encode()  # the terminal's line breaks and no letter that it cannot write
    for file in folder.glob("checkpoint-*"):
        file.unlink()


@fuzz
@given(spoiled_bytes)
def test_results_json_is_read_or_refused(run_folder, how):
    read_results(run_folder, spoil((run_folder / "results.json").read_bytes(), how))


RESULTS = {
    "script": "script", "data": "some data", "weights": "some weights", "seed": 0, "settings": {"epochs": 3},
    "metrics": {"accuracy": 0.5}, "table": {"columns": ["what", "accuracy"], "rows": [["model", "50.0%"]]},
    "seconds": {"total": 1.0}, "versions": {}, "models": ["model.pt"],
    "plots": [{"file": "plot.png", "title": "A plot", "caption": "What to see in it."}],
}  # fmt: skip


@fuzz
@given(spoiled_content(lambda: RESULTS, ODD_IN_JSON))
def test_results_json_of_odd_content_is_read_or_refused(run_folder, spoiled):
    read_results(run_folder, json.dumps(spoiled.content).encode())
