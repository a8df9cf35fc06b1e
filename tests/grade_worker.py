"""Runs one check of a student's code for tests/grade.py: `python -m tests.grade_worker FOLDER CHECK`.

The last line that it prints is the reply, as JSON. This is not a sandbox. Run untrusted code in a container.
"""

import builtins
import importlib
import itertools
import json
import os
import sys
import traceback
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import bleu_utils
import layers
import rnn
import rnn_layers
from tests.gradient_check import numeric_gradient, relative_error

REPO = Path(__file__).resolve().parent.parent
OURS = {"layers": layers, "rnn_layers": rnn_layers, "rnn": rnn, "bleu_utils": bleu_utils}
SIZES = dict(T=4, N=3, D=5, H=6, V=9, M=7)  # all different, so that a wrong axis changes the shape
WORDS = {word: k for k, word in enumerate((*rnn.SPECIAL, "a", "dog", "cat", "runs", "sleeps"))}
CAPTIONS = np.array([[1, 4, 5, 7, 2, 0], [1, 4, 6, 2, 0, 0], [1, 5, 3, 8, 2, 0]])
SENTENCES = [("a man rides a horse", "a man rides a dog"), ("a man rides a horse", "a a a a a"), ("a dog", "two cats"),
             ("a man rides a horse", "a man"), ("<START> a man rides <UNK> <END>", "a man rides <END>")]  # fmt: skip


class Failure(Exception):
    """A failed check; the message says what is wrong."""


class Missing(Failure):
    """The function or its file does not exist."""


def ours(module, function):
    """Our function `function` of `module`."""
    return getattr(OURS[module], function)


def finder(folder):
    """Returns a function like `ours` that finds the student's functions."""

    def find(module, function):
        if not (folder / f"{module}.py").is_file():
            raise Missing(f"{module}.py not found")
        try:
            found = getattr(importlib.import_module(module), function, None)
        except BaseException as error:  # includes SystemExit
            raise Failure(f"{module}.py cannot be imported: {explain(error, folder)}") from None
        if not callable(found):
            raise Missing(f"{module}.py has no function {function}")
        return found

    return find


def call(function, arguments, names):
    """Calls a function with copies of the arguments. Raises Failure unless it returns a result for each name."""
    returned = function(*(a.copy() if isinstance(a, np.ndarray) else a for a in arguments))
    results = list(returned) if isinstance(returned, (tuple, list)) and len(names) > 1 else [returned]
    if returned is None or len(results) != len(names):
        came = f"{len(results)} values" if returned is not None else None
        raise Failure(f"returned {came}, expected {len(names)}: {', '.join(names)}")
    return results


# ---- the checks: run(part, code, inputs) returns the outputs, and a function from their gradients to the inputs'

Part = namedtuple("Part", "name module run inputs outs")  # inputs, outs: {name: axes}; "N 4H" is the shape (N, 4 * H)


def floats(part):
    """{input: name of its gradient} for the inputs that have a gradient."""
    return {name: f"d{name}" for name in part.inputs if name not in ("words", "y", "mask", "features")}


def run_layer(part, code, inputs):
    """A forward and its backward."""
    *outs, cache = call(code(part.module, f"{part.name}_forward"), inputs.values(), [*part.outs, "cache"])
    return outs, lambda douts: call(code(part.module, f"{part.name}_backward"), [*douts, cache], floats(part).values())


def run_loss(part, code, inputs):
    """A loss function, which returns the loss and dx together."""
    loss, dx = call(code(part.module, part.name), inputs.values(), ["loss", "dx"])
    return [loss], lambda douts: [dx]


def build(part, code, inputs):
    """A CaptioningRNN that takes its parameters from the inputs."""
    sizes = dict(input_dim=SIZES["D"], wordvec_dim=SIZES["M"], hidden_dim=SIZES["H"])
    cell = sys.intern(part.name)  # so that `cell_type is 'rnn'` works in the student's code
    model = code("rnn", "CaptioningRNN")(dict(WORDS), cell_type=cell, dtype=np.float64, **sizes)
    if missing := [name for name in floats(part) if name not in model.params]:
        raise Failure(f"params has no {missing[0]!r}; it has {', '.join(map(str, model.params))}")
    model.params.update({name: inputs[name].copy() for name in floats(part)})
    return model


def run_model(part, code, inputs):
    """`CaptioningRNN.loss`."""
    features = inputs["features"]
    loss, grads = call(build(part, code, inputs).loss, [features, CAPTIONS[: len(features)]], ["loss", "grads"])
    return [loss], lambda douts: [grads.get(name) for name in floats(part)]


def run_sample(part, code, inputs):
    """`CaptioningRNN.sample`: the words of all captions, each up to <END>, as one string."""
    quiet = np.where(np.arange(len(WORDS)) < 2, -100.0, 0)  # keep <NULL> and <START> from being sampled
    captions = build(part, code, {**inputs, "b_vocab": quiet}).sample(inputs["features"].copy())
    captions = [np.asarray(row).tolist() for row in captions]
    captions = [row[: row.index(2) + 1 if 2 in row else None] for row in captions]
    return [" / ".join(" ".join([*WORDS][word] for word in row) for row in captions)], None


def run_bleu(part, code, inputs):
    """`BLEU_score`."""
    return [code(part.module, part.name)(*pair) for pair in SENTENCES], None


def params(k):
    """The inputs of a model with k gates, as {name: axes}."""
    axes = dict(W_proj="D H", b_proj="H", W_embed="V M", Wx=f"M {k}H", Wh=f"H {k}H", b=f"{k}H")
    return dict(features="N D", **axes, W_vocab="H V", b_vocab="V")


RNN, LSTM = (dict(Wx=f"D {k}H", Wh=f"H {k}H", b=f"{k}H") for k in ("", "4"))
STEP, SEQUENCE, FC = dict(x="N D", prev_h="N H"), dict(x="T N D", h0="N H"), dict(w="D M", b="M")
PARTS = [
    Part("rnn_step", "rnn_layers", run_layer, {**STEP, **RNN}, dict(next_h="N H")),
    Part("rnn", "rnn_layers", run_layer, {**SEQUENCE, **RNN}, dict(h="T N H")),
    Part("lstm_step", "rnn_layers", run_layer, {**STEP, "prev_c": "N H", **LSTM}, dict(next_h="N H", next_c="N H")),
    Part("lstm", "rnn_layers", run_layer, {**SEQUENCE, **LSTM}, dict(h="T N H")),
    Part("temporal_fc", "rnn_layers", run_layer, dict(x="N T D", **FC), dict(out="N T M")),
    Part("temporal_softmax_loss", "rnn_layers", run_loss, dict(x="N T V", y="N T", mask="N T"), dict(loss="")),
    *(Part(cell, "rnn", run_model, params(k), dict(loss="")) for cell, k in (("rnn", ""), ("lstm", "4"))),
    *(Part(cell, "rnn", run_sample, params(k), dict(captions="")) for cell, k in (("rnn", ""), ("lstm", "4"))),
    Part("word_embedding", "rnn_layers", run_layer, dict(words="N T", W="V D"), dict(out="N T D")),
    Part("fc", "layers", run_layer, dict(x="N D", **FC), dict(out="N M")),
    Part("softmax_loss", "layers", run_loss, dict(x="N V", y="N"), dict(loss="")),
    Part("BLEU_score", "bleu_utils", run_bleu, {}, {f"the score of {b!r} for {a!r}": "" for a, b in SENTENCES}),
]
NAMES = {  # names of a part's checks: of its values, of its gradients
    run_layer: ("{}_forward", "{}_backward"),
    run_loss: ("{}", "{}, dx"),
    run_model: ("CaptioningRNN.loss, {}", "CaptioningRNN.loss, {}, grads"),
    run_sample: ("CaptioningRNN.sample, {}",),
    run_bleu: ("{}",),
}
CHECKS = {name.format(part.name): (part, bool(k)) for part in PARTS for k, name in enumerate(NAMES[part.run])}


def results(part, gradients, sizes, code, right=ours):
    """The actual and expected outputs or gradients, by name. For a wrong forward, numeric gradients are expected."""
    rng = np.random.default_rng(0)
    inputs = {k: rng.standard_normal(shape_of(axes, sizes)) for k, axes in part.inputs.items()}
    for k in inputs.keys() & {"words", "y", "mask"}:
        inputs[k] = inputs[k] > -0.5 if k == "mask" else rng.integers(0, sizes["V"], inputs[k].shape)
    outs, backward = part.run(part, code, inputs)
    wanted, right_backward = part.run(part, right, inputs)
    if not gradients:
        return dict(zip(part.outs, outs, strict=True)), dict(zip(part.outs, wanted, strict=True))
    douts = [rng.standard_normal(shape_of(axes, sizes)) if axes else 1.0 for axes in part.outs.values()]
    came = backward(douts)

    def total(k, value):
        outs, _ = part.run(part, code, {**inputs, k: value})
        return sum(np.sum(np.multiply(out, dout)) for out, dout in zip(outs, douts, strict=True))

    own = []
    if not all(map(is_close, outs, wanted)):
        own = [numeric_gradient(lambda value, k=k: total(k, value), inputs[k]) for k in floats(part)]
        if not any(map(np.any, own)):
            raise Failure("the forward does not depend on its arguments")
    wanted = own if own and all(np.isfinite(gradient).all() for gradient in own) else right_backward(douts)
    return dict(zip(floats(part).values(), came, strict=True)), dict(zip(floats(part).values(), wanted, strict=True))


def shape_of(axes, sizes):
    """The shape for axes such as "T N 4H"."""
    return tuple(int(axis[:-1] or 1) * sizes[axis[-1]] for axis in axes.split())


# ---- failures and their causes


def as_array(came):
    """An array or a list of arrays as one array of floats; None for anything else."""
    try:
        return np.asarray(came, np.float64) if came is not None else None
    except (TypeError, ValueError):
        return None


def is_close(came, wanted):
    """Whether a string equals the expected one, or an array has the expected shape and values."""
    if isinstance(wanted, str):
        return came == wanted
    came = as_array(came)
    return came is not None and came.shape == np.shape(wanted) and relative_error(came, wanted) < 1e-5


def compare(came, wanted):
    """Raises Failure for the first result that differs from the expected one."""
    for name, right in wanted.items():
        array, shape, causes = as_array(came[name]), np.shape(right), []
        if is_close(came[name], right):
            continue
        if isinstance(right, str):
            raise Failure(f"{name} are {came[name]!r:.200}, expected {right!r:.200}")
        if array is None or array.shape != shape:
            kind = f"is of type {type(came[name]).__name__}" if array is None else f"has shape {array.shape}"
            text = f"{name} {kind}, expected an array of shape {shape}"
        else:
            at = np.unravel_index(np.argmax(~(abs(array - right) <= 1e-5 * np.max(np.abs(right)))), shape)
            text = f"{name}{[*map(int, at)] or ''} is {array[at]:.6g}, expected {np.asarray(right)[at]:.6g}"
            ratio = np.sum(array * right) / np.sum(np.square(right))
            if array.size > 1 and is_close(array, ratio * right):
                causes.append(f"every value is {ratio:.5g} times the expected one (N = {SIZES['N']}, T = {SIZES['T']})")
        if array is not None and array.ndim > 1 and is_close(array.swapaxes(0, 1), right):
            causes.append("axes 0 and 1 are swapped")
        causes += [f"it equals the expected {k}: is the order right?" for k, w in wanted.items() if is_close(array, w)]
        raise Failure("; ".join([text, *causes[:1]]))


def changed(code, change, *functions):
    """A finder like `code` that wraps the named functions with `change`."""
    return lambda module, name: (change if name in functions else lambda f: f)(code(module, name))


def batch_first(function):
    """Wraps a function of (N, T, D) sequences so that it takes and returns (T, N, D)."""

    def run(x, *rest):
        first, *others = function(x.swapaxes(0, 1), *rest)
        return (np.asarray(first).swapaxes(0, 1), *others)

    return run


def stacked(order):
    """Wraps an LSTM's forward: reorders the gates of Wx, Wh and b into `order` before the call."""

    def restack(a):
        return np.concatenate([np.split(a, 4, axis=-1)[gate] for gate in order], axis=-1)

    return lambda function: lambda *inputs: function(*inputs[:-3], *map(restack, inputs[-3:]))


def suspects(part, student):
    """Yields a likely mistake and two finders (student's, ours); the check passes with them if that is the mistake."""
    functions, gates = [f"{part.name}_forward", f"{part.name}_backward"], ("f", "i", "c̃", "o")
    yield "it passes on a second try; does it keep state between calls or draw random numbers?", student, ours
    for order in itertools.permutations(range(4)) if part.run is run_layer and part.name.startswith("lstm") else ():
        words = f"its gates are in the order {', '.join(gates[k] for k in order)}; the handout has {', '.join(gates)}"
        yield words, changed(student, stacked(order), functions[0]), ours
    if "mask" in part.inputs:
        no_mask = changed(ours, lambda f: lambda x, y, mask: f(x, y, np.ones_like(mask)), part.name)
        yield "the mask is ignored", student, no_mask
    if "T N D" in part.inputs.values():
        words = "it expects sequences (N, T, D); the handout's are time-major, (T, N, D)"
        yield words, changed(student, batch_first, *functions), ours
    for lent in (p for p in PARTS if p.run in (run_layer, run_loss) and p is not part):
        names = [name.format(lent.name).partition(",")[0] for name in NAMES[lent.run]]
        places = [(m, name) for m in map(sys.modules.get, OURS) for name in names if m and name in vars(m)]
        theirs = [getattr(*place) for place in places]
        for place in places:
            setattr(*place, ours(lent.module, place[1]))
        yield f"it passes with our {' and '.join(dict.fromkeys(names))}; fix the student's first", student, ours
        for place, function in zip(places, theirs, strict=True):
            setattr(*place, function)


def attempt(part, gradients, sizes, folder, *finders):
    """The Failure of a check with these finders, or None if it passes."""
    try:
        return compare(*results(part, gradients, sizes, *finders))
    except Failure as failure:
        return failure
    except BaseException as error:  # the student's code may raise anything
        return Failure(explain(error, folder))


def failures(name, student, folder):
    """If a check fails, yields its Failure, then another Failure that adds the cause, if one is found."""
    part, gradients = CHECKS[name]
    for sizes, where in ((SIZES, ""), ({**SIZES, "N": 1}, "only with N = 1: ")):
        args = part, gradients, sizes, folder
        if failure := attempt(*args, student):
            yield type(failure)(f"{where}{failure}")
            causes = (words for words, *finders in suspects(part, student) if not attempt(*args, *finders))
            yield from (Failure(f"{where}{failure}; {words}") for words in itertools.islice(causes, 1))
            return


def explain(error, folder):
    """One line: the place in the student's files, the type of the error, and its message."""
    at = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    at = [f"{Path(name).name} line {line}: " for name, line in at if Path(name).resolve().is_relative_to(folder)][-1:]
    hint = "; use a tuple: one numpy array cannot hold unequal shapes" if at and "inhomogeneous" in str(error) else ""
    return f"{''.join(at)}{type(error).__name__}: {error}{hint}"


def lend_nltk():
    """Makes nltk (or a stand-in with our BLEU) a builtin, because the course's bleu_utils.py does not import it."""
    try:
        import nltk.translate.bleu_score
    except ImportError:
        score = SimpleNamespace(sentence_bleu=lambda a, b, weights: bleu_utils.corpus_bleu([a], [b])[len(weights) - 1])
        nltk = SimpleNamespace(translate=SimpleNamespace(bleu_score=score))
        sys.modules |= {"nltk": nltk, "nltk.translate": nltk.translate, "nltk.translate.bleu_score": score}
    builtins.nltk = nltk


def main(folder, name):
    """Prints the reply to a check. The student's code gets the null device as stdin, stdout and stderr."""
    replies, nothing = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    for module in {*OURS, "tests", "tests.gradient_check", "common", "common.cli"}:
        del sys.modules[module]  # the student may have files of these names
    sys.path[:] = [folder, *(path for path in sys.path if path and Path(path).resolve() != REPO)]
    if not Path(folder, "layers.py").is_file():
        sys.modules["layers"] = layers
    lend_nltk()
    np.random.seed(0)
    reply = {"missing": False, "failure": None}
    for failure in failures(name, finder(Path(folder)), Path(folder)):
        reply = {"missing": isinstance(failure, Missing), "failure": str(failure)}
        print(json.dumps(reply), file=replies, flush=True)  # now, because the search for the cause may time out
    print(json.dumps(reply), file=replies, flush=True)
    os._exit(0)  # also ends the student's threads


if __name__ == "__main__":
    main(*sys.argv[1:])
