"""Grades a student's layers: `python -m tests.grade DIR`, or `make grade SUBMISSION=DIR`.

DIR holds the homework's rnn_layers.py, layers.py and rnn.py (bleu_utils.py where the student has one). Each function
that the handout names gets a line: a point for its values, a point for its gradients, and beside them, without points,
what the handout does not ask for: float32 in gives float32 out, no argument is changed, large numbers give finite and
right results. Helpers and the extra part (fc, word embedding, softmax loss, sigmoid, BLEU_score) are checked where they
are there, without points. Dropout and evaluate_model, whose arguments the handout leaves open, are not checked.

Values are compared with those of this project's modules. Gradients are too, and where they differ, with numeric
differences of the student's own forward: who has made a mistake in the forward pays for it once.

The student's code runs in a process of its own, tests/grade_worker.py, which is stopped after --timeout seconds in one
call and started again for the next function. It is no prison: code that means harm belongs in a container.
"""

import ast
import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np

import bleu_utils
import layers
import rnn
import rnn_layers
from common.cli import Parser, UserError, number, run_main, shown
from tests.grade_worker import Other, pack, unpack
from tests.gradient_check import relative_error

OURS = {"layers": layers, "rnn_layers": rnn_layers, "rnn": rnn, "bleu_utils": bleu_utils}
COLUMNS = ("values", "gradients", "float32", "unchanged", "stable")
POINTS = ("values", "gradients")  # the columns that the handout asks for
VALUES_BOUND, NUMERIC_BOUND = 1e-6, 1e-5  # on relative errors, of float64 against our values and numeric gradients
WIDTH = 96
FORGED = "wrote into the pipe of the grader"


class Failure(Exception):
    """A check that failed; the message says how."""


class Broken(Failure):
    """There is nothing to check: the function raised, hung, or returned something else."""


class Missing(Broken):
    """The function, or its file, is not there."""


# ---- the student's process


class Student:
    """A student's folder, and the process that runs its functions: started when it is needed, and again when it died.

    timeout: seconds for one call, and for the import of one module.
    """

    def __init__(self, folder, timeout):
        self.folder, self.timeout = Path(folder).resolve(), timeout
        self.process, self.loaded, self.unloadable = None, set(), {}
        self.scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # what relative paths write goes here

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()
        self.scratch.cleanup()

    def ask(self, recipe, module, **job):
        """The worker's reply to a job about a module. Raises Missing or Broken, which say why there is none."""
        if not (self.folder / f"{module}.py").is_file():
            raise Missing(f"{module}.py is not there")
        if module in self.unloadable:
            raise Broken(self.unloadable[module])
        if self.process is None:
            self._start()
        if module not in self.loaded:
            try:
                self._exchange({"recipe": "load", "module": module})
            except Broken as failure:
                self.unloadable[module] = f"{module}.py cannot be imported: {failure}"
                raise Broken(self.unloadable[module]) from None
            self.loaded.add(module)
        return self._exchange({"recipe": recipe, "module": module, **job})

    def _start(self):
        environment = {
            **os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPYCACHEPREFIX": self.scratch.name,  # and no compiled file of the student's is read
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("grade_worker.py")), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            cwd=self.scratch.name, env=environment, start_new_session=True,
        )  # fmt: skip
        self.replies = queue.Queue()
        threading.Thread(target=_listen, args=(self.process.stdout, self.replies), daemon=True).start()
        try:
            ready = self._next(120)
        except queue.Empty:
            self._stop()
            raise UserError("the process for the student's code does not start: is the machine too busy?") from None
        if ready != "ready\n":
            raise RuntimeError(f"tests/grade_worker.py does not start: {self.process.stderr.read()}")

    def _stop(self):
        if self.process is not None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)  # what the student's code has started goes too
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stderr):
                with contextlib.suppress(OSError):  # a job that nobody read
                    pipe.close()
        self.process, self.loaded = None, set()

    def _next(self, seconds):
        """The next line from the worker: "" when it has ended. Raises queue.Empty after so many seconds."""
        return self.replies.get(timeout=seconds)

    def _exchange(self, job):
        try:
            print(json.dumps(job), file=self.process.stdin, flush=True)
            line = self._next(self.timeout)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self._stop()
            raise Broken(f"not done after {self.timeout:g} s, and stopped: an endless loop?") from None
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may live on with its pipes closed
                self.process.wait(self.timeout)
            status = self.process.poll()
            self._stop()
            how = "or closed its pipes" if status is None else _ending(status)
            raise Broken(f"ended the Python process ({how})")
        try:
            reply = json.loads(line)
            failed = (Missing if reply["absent"] else Broken)(str(reply["error"])) if "error" in reply else None
            list(map(unpack, reply.get("results", [])))
        except Exception:  # the student's code may write anything, and so anything may come of it
            self._stop()
            raise Broken(FORGED) from None
        if failed:
            raise failed
        return reply


def _ending(status):
    return f"os._exit, status {status}" if status >= 0 else f"signal {-status}"


def _listen(stream, replies):
    with stream:
        for line in stream:
            replies.put(line)
    replies.put("")


# ---- the functions of the handout: arguments and results with their axes ("4H": four times H)

Layer = namedtuple("Layer", "module inputs outs")
SIZES = dict(T=4, N=3, D=5, H=6, V=7, M=8)  # all different: a wrong axis shows in the shape
ONES = dict(T=1, N=1, D=2, H=3, V=4, M=5)

RNN = dict(Wx="D H", Wh="H H", b="H")
LSTM = dict(Wx="D 4H", Wh="H 4H", b="4H")
LAYERS = {
    "rnn_step": Layer("rnn_layers", dict(x="N D", prev_h="N H", **RNN), dict(next_h="N H")),
    "rnn": Layer("rnn_layers", dict(x="T N D", h0="N H", **RNN), dict(h="T N H")),
    "lstm_step": Layer(
        "rnn_layers", dict(x="N D", prev_h="N H", prev_c="N H", **LSTM), dict(next_h="N H", next_c="N H")
    ),
    "lstm": Layer("rnn_layers", dict(x="T N D", h0="N H", **LSTM), dict(h="T N H")),
    "temporal_fc": Layer("rnn_layers", dict(x="N T D", w="D M", b="M"), dict(out="N T M")),
    "word_embedding": Layer("rnn_layers", dict(x="N T", W="V D"), dict(out="N T D")),
    "fc": Layer("layers", dict(x="N D", w="D M", b="M"), dict(out="N M")),
    "temporal_softmax_loss": Layer("rnn_layers", dict(x="N T V", y="N T", mask="N T"), dict(loss="")),
    "softmax_loss": Layer("layers", dict(x="N V", y="N"), dict(loss="")),
    "sigmoid": Layer("layers", dict(x="N D"), dict(out="N D")),
}
WORDS = {("word_embedding", "x"), ("temporal_softmax_loss", "y"), ("softmax_loss", "y")}  # integers below V
LOUD = {  # the input that is ±10,000 where `stable` is checked
    **dict.fromkeys(("rnn_step", "rnn", "lstm_step", "lstm"), "b"),
    **dict.fromkeys(("temporal_softmax_loss", "softmax_loss", "sigmoid"), "x"),
}
GATES = ("f", "i", "c̃", "o")


def shape_of(axes, sizes):
    """The shape that "T N 4H" stands for."""
    return tuple(int(axis[:-1] or 1) * sizes[axis[-1]] for axis in axes.split())


def draw(name, sizes, dtype=np.float64):
    """Random inputs of a layer: {input: array}. The same ones at every call."""
    rng = np.random.default_rng(0)
    inputs = {}
    for argument, axes in LAYERS[name].inputs.items():
        shape = shape_of(axes, sizes)
        if (name, argument) in WORDS:
            inputs[argument] = rng.integers(0, sizes["V"], shape)
        elif argument == "mask":
            inputs[argument] = rng.random(shape) < 0.6
            inputs[argument].flat[0] = True
        else:
            inputs[argument] = rng.standard_normal(shape).astype(dtype)
    return inputs


def loud(name, inputs):
    """The same inputs, one of them ±10,000."""
    return {**inputs, LOUD[name]: 1e4 * np.sign(inputs[LOUD[name]])}


def draw_douts(name, sizes, dtype=np.float64):
    """Random gradients of a layer's outputs."""
    rng = np.random.default_rng(1)
    return {f"d{out}": rng.standard_normal(shape_of(axes, sizes)).astype(dtype) for out, axes in _outs(name)}


def _outs(name):
    return LAYERS[name].outs.items()


def gradient_axes(name):
    """The gradients of a layer and their axes: one for each input of floats, in order."""
    floats = {k: axes for k, axes in LAYERS[name].inputs.items() if (name, k) not in WORDS and k != "mask"}
    return {f"d{argument}": axes for argument, axes in floats.items()}


# ---- comparing


def named(reply, names, ignored=()):
    """The results of a reply by name. Raises Broken where there are more or fewer (`ignored` at the end too)."""
    wanted, count = [*names, *ignored], reply.get("count")
    if count != len(wanted):
        came = f"{count} value{'s' * (count != 1)}" if count else "None"
        raise Broken(f"returned {came}, expected {len(wanted)}: {', '.join(wanted)}")
    if len(reply.get("results", [])) != len(names):
        raise Broken(FORGED)
    return dict(zip(names, map(unpack, reply["results"]), strict=True))


def compare(came, expected, axes, sizes, bound=VALUES_BOUND, alternatives=()):
    """Raises a Failure about the first of the arrays that came which is not the expected one.

    axes: of each array, as in LAYERS. alternatives: pairs of a mistake in words and the arrays that it leads to.
    """
    for name, wanted in expected.items():
        if is_close(came[name], wanted, bound):
            continue
        message = mismatch(name, came[name], wanted, axes[name], sizes, bound)
        causes = itertools.chain(likely_causes(name, came[name], expected, sizes, axes), _fitting(came, alternatives))
        cause = next(causes, None)
        raise Failure(message + (f"; {cause}" if cause else ""))


def is_close(came, wanted, bound=VALUES_BOUND):
    """Whether the array or number that came has the shape wanted and its values, up to a relative error."""
    if not isinstance(came, np.ndarray) or came.shape != np.shape(wanted):
        return False
    return bool(np.isfinite(came).all()) and relative_error(came.astype(np.float64), wanted) < bound


def _fitting(came, alternatives):
    for cause, arrays in alternatives:
        if all(is_close(came[name], array) for name, array in arrays.items()):
            yield cause


def kind_of(came):
    """In words: what came instead of an array."""
    return came.name if isinstance(came, Other) else "None" if came is None else f"a {type(came).__name__}"


def mismatch(name, came, wanted, axes, sizes, bound=VALUES_BOUND):
    """In words: how what came is not the array wanted."""
    shape = np.shape(wanted)
    expected = f"expected ({', '.join(axes.split())}) = {shape}" if axes else "expected a number"
    if isinstance(came, Other) and came.shape not in (None, shape):
        return f"{name} has shape {came.shape}, {expected}"
    if not isinstance(came, np.ndarray):
        return f"{name} is {kind_of(came)}, {expected}"
    if came.shape != shape:
        return f"{name} has shape {came.shape}, {expected}"
    came = came.astype(np.float64)
    odd = ~np.isfinite(came)
    off = odd | (abs(came - wanted) > bound * abs(np.asarray(wanted)).max(initial=1e-8))
    if not off.any():  # many small differences
        off = came != wanted
    at = np.argwhere(odd)[0] if odd.any() else np.unravel_index(abs(came - wanted).argmax(), shape)
    at = tuple(int(k) for k in at)
    where = f"[{', '.join(map(str, at))}]" if at else ""
    text = f"{name}{where} is {came[at]:.6g}, expected {np.asarray(wanted)[at]:.6g}"
    if came.size == 1:
        return text
    return f"{text} (the largest difference; {off.sum()} of {off.size} numbers differ{_only_in(off, axes, sizes)})"


def _only_in(off, axes, sizes):
    """ ", all with t = 3" where the numbers that are off lie in some time steps, examples or gates only."""
    found = []
    for k, axis in enumerate(axes.split()):
        places = np.flatnonzero(off.any(axis=tuple(j for j in range(off.ndim) if j != k)))
        if axis.startswith("4"):
            gates = sorted(set((places // sizes[axis[-1]]).tolist()))
            if len(gates) < 4:
                found.append(f"in gate {' and '.join(GATES[gate] for gate in gates)}")
        elif axis in "TN" and len(places) < off.shape[k]:
            found.append(f"with {axis.lower()} = {', '.join(map(str, places))}")
    return f", all {' and '.join(found)}" if found else ""


def likely_causes(name, came, expected, sizes, axes):
    """Mistakes, in words, that lead from the expected array to the one that came exactly."""
    wanted = np.asarray(expected[name])
    if not isinstance(came, np.ndarray):
        return
    if not np.isfinite(came).all():
        if name == "loss":
            yield "is it the log of a probability that is 0? log Σ e^x - x[y] stays finite"
        return
    came = came.astype(np.float64)
    if came.ndim == wanted.ndim and came.ndim > 1 and is_close(came.swapaxes(0, 1), wanted, NUMERIC_BOUND):
        yield "it is the transpose of what is right" if came.ndim == 2 else f"axes 0 and 1 are exchanged: {axes[name]}"
    if came.ndim == 3 and came.shape != wanted.shape and came.swapaxes(0, 1).shape == wanted.shape:
        yield "are axes 0 and 1 exchanged?"
    for other, array in expected.items():
        if other != name and is_close(came, array, NUMERIC_BOUND):
            yield f"it is what {other} should be: is the order of the results right?"
    if came.shape != wanted.shape:
        return
    if not came.any():
        yield "all of it is zero"
        return
    ratio = float(np.sum(came * wanted) / max(np.sum(wanted**2), 1e-300))
    if is_close(came, ratio * wanted, NUMERIC_BOUND) and (words := _factor(ratio, sizes, axes, came.size > 1)):
        yield words


def _factor(ratio, sizes, axes, any_factor):
    """A factor in words, by the sizes that it may come from; None where it says nothing."""
    letters = [letter for letter in sizes if any(letter in a for a in axes.values())]
    known = {-1: "its sign is turned", 2: "it is twice what is right", 0.5: "it is half of what is right"}
    for names in (*letters, *itertools.combinations(letters, 2)):
        size = int(np.prod([sizes[letter] for letter in names]))
        if size > 1:
            text = f"{'·'.join(names)} = {size}"
            known.setdefault(size, f"it is {text} times what is right")
            known.setdefault(1 / size, f"it is what is right, divided by {text}")
    for value, words in known.items():
        if abs(ratio / value - 1) < 1e-5:
            return words
    return f"it is {ratio:.5g} times what is right" if any_factor else None


def other_gate_orders(name, inputs):
    """What the LSTM gives when its gates are stacked in each other order: pairs of words and the outputs."""
    for order in itertools.permutations(range(4)):
        if order == (0, 1, 2, 3):
            continue
        places = np.argsort(order)  # where in that order f, i, c̃, o stand

        def restack(a, places=places):
            return np.concatenate([np.split(a, 4, axis=-1)[place] for place in places], axis=-1)

        changed = {k: restack(a) if k in ("Wx", "Wh", "b") else a for k, a in inputs.items()}
        words = ", ".join(GATES[gate] for gate in order)
        yield f"it fits gates stacked {words}; the handout's are f, i, c̃, o", reference(name, changed)


def other_masks(name, inputs):
    """What temporal_softmax_loss gives when its mask is lost, or the mean is another one."""
    yield "it fits a mask that is not used", reference(name, {**inputs, "mask": np.ones_like(inputs["mask"])})
    factor = len(inputs["x"]) / inputs["mask"].sum()
    loss = {out: factor * value for out, value in reference(name, inputs).items()}
    yield "it fits a mean over the elements of the mask; the handout's is over the minibatch", loss


def without_bias(name, inputs):
    """What a layer gives without its b."""
    yield "it fits a layer without b", reference(name, {**inputs, "b": 0 * inputs["b"]})


ALTERNATIVES = {
    "rnn_step": (without_bias,), "rnn": (without_bias,), "temporal_fc": (without_bias,), "fc": (without_bias,),
    "lstm_step": (other_gate_orders, without_bias), "lstm": (other_gate_orders, without_bias),
    "temporal_softmax_loss": (other_masks,),
}  # fmt: skip


def alternatives(name, inputs):
    """Mistakes in words and the outputs that they lead to, computed only when asked for."""
    return itertools.chain.from_iterable(mistake(name, inputs) for mistake in ALTERNATIVES.get(name, ()))


# ---- what is right


def reference(name, inputs):
    """{output: array} of our function of that name (a layer's forward, a loss without its gradient, sigmoid)."""
    layer = LAYERS[name]
    function = getattr(OURS[layer.module], f"{name}_forward", None) or getattr(OURS[layer.module], name)
    returned = function(**inputs)
    return dict(zip(layer.outs, returned if isinstance(returned, tuple) else [returned], strict=False))


def reference_gradients(name, inputs, douts):
    """{gradient: array} of our backward."""
    module = OURS[LAYERS[name].module]
    *_, cache = getattr(module, f"{name}_forward")(**inputs)
    gradients = getattr(module, f"{name}_backward")(*douts.values(), cache)
    return dict(zip(gradient_axes(name), gradients if isinstance(gradients, tuple) else [gradients], strict=True))


# ---- the checks: each a function of the student that raises a Failure, or returns a remark or None


def check_dtype(arrays):
    """Raises a Failure about the first array of another type than float32 (a single number may have any)."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise Failure(f"{name} is {kind_of(array)}, expected an array of float32")
        if array.ndim and array.dtype != np.float32:
            raise Failure(f"{name} is {array.dtype} where all that came in was float32")


def check_unchanged(reply):
    """Raises a Failure that names the arguments which the function has changed."""
    if reply["changed"]:
        raise Failure(f"changes its argument{'s' * (len(reply['changed']) > 1)} {', '.join(reply['changed'])}")


def compare_gradients(came, expected, numeric, axes, sizes):
    """Compares gradients with ours, and where they differ with numeric ones of the student's own forward.

    numeric: a function that gives those, asked only then. Returns a remark where only they fit.
    """
    try:
        compare(came, expected, axes, sizes)
        return None
    except Failure as failure:
        try:
            own = numeric()
        except Broken:  # the forward's outputs have odd shapes, or it is too slow
            raise failure from None
        if all(is_close(own[name], wanted, NUMERIC_BOUND) for name, wanted in expected.items()):
            raise  # the forward is right
        if any(not np.any(own[name]) and np.any(wanted) for name, wanted in expected.items()):
            raise  # a forward that does not depend on its arguments has no gradient worth a point
    compare(came, own, axes, sizes, NUMERIC_BOUND)
    return "right for the student's own forward, whose values are wrong"


class Forward:
    """The checks of `<name>_forward`, or of a function without a backward."""

    def __init__(self, name, function, ignored=()):
        self.name, self.function, self.ignored = name, function, ignored

    def ask(self, student, inputs):
        outs = LAYERS[self.name].outs
        reply = student.ask(
            "call", LAYERS[self.name].module, function=self.function, arguments=pack(inputs), keep=len(outs)
        )
        return reply, named(reply, outs, self.ignored)

    def _compare(self, student, inputs, sizes):
        _, came = self.ask(student, inputs)
        right = reference(self.name, inputs)
        compare(came, right, LAYERS[self.name].outs, sizes, alternatives=alternatives(self.name, inputs))

    def values(self, student):
        for sizes in (SIZES, ONES):
            self._compare(student, draw(self.name, sizes), sizes)

    def float32(self, student):
        check_dtype(self.ask(student, draw(self.name, SIZES, np.float32))[1])

    def unchanged(self, student):
        check_unchanged(self.ask(student, draw(self.name, SIZES))[0])

    def stable(self, student):
        self._compare(student, loud(self.name, draw(self.name, SIZES)), SIZES)


class Backward:
    """The checks of `<name>_backward`, called with the cache of the student's own forward."""

    def __init__(self, name):
        self.name, self.axes = name, gradient_axes(name)
        self.about = dict(module=LAYERS[name].module, forward=f"{name}_forward", function=f"{name}_backward")

    def look(self, student):
        """Raises Missing where the function is not there."""
        try:
            student.ask("look", **self.about)
        except Missing:
            raise
        except Broken:  # its file cannot be imported, as the forward's line says
            pass

    def ask(self, student, inputs, douts):
        reply = student.ask("backward", **self.about, arguments=pack(inputs), douts=pack(douts), keep=len(self.axes))
        return reply, named(reply, self.axes)

    def gradients(self, student):
        remarks = []
        for sizes in (SIZES, ONES):
            inputs, douts = draw(self.name, sizes), draw_douts(self.name, sizes)
            _, came = self.ask(student, inputs, douts)

            def numeric(inputs=inputs, douts=douts):
                asked = {**self.about, "function": self.about["forward"]}
                reply = student.ask("numeric", **asked, arguments=pack(inputs), douts=pack(douts), keep=len(self.axes))
                return named(reply, self.axes)

            right = reference_gradients(self.name, inputs, douts)
            remarks.append(compare_gradients(came, right, numeric, self.axes, sizes))
        return next(filter(None, remarks), None)

    def float32(self, student):
        inputs, douts = draw(self.name, SIZES, np.float32), draw_douts(self.name, SIZES, np.float32)
        check_dtype(self.ask(student, inputs, douts)[1])

    def unchanged(self, student):
        check_unchanged(self.ask(student, draw(self.name, SIZES), draw_douts(self.name, SIZES))[0])

    def stable(self, student):
        inputs, douts = loud(self.name, draw(self.name, SIZES)), draw_douts(self.name, SIZES)
        compare(self.ask(student, inputs, douts)[1], reference_gradients(self.name, inputs, douts), self.axes, SIZES)


class Loss(Forward):
    """The checks of a loss, which returns its value and dx at once."""

    def __init__(self, name):
        super().__init__(name, name)
        self.about = dict(module=LAYERS[name].module, function=name)

    def ask(self, student, inputs):
        reply = student.ask("call", **self.about, arguments=pack(inputs), keep=2)
        return reply, named(reply, ["loss", "dx"])

    def _gradients(self, student, inputs, sizes):
        axes = {"dx": LAYERS[self.name].inputs["x"]}
        _, came = self.ask(student, inputs)

        def numeric():
            reply = student.ask("numeric", **self.about, arguments=pack(inputs), douts=pack({"dloss": 1.0}), keep=1)
            return named(reply, axes)

        right = getattr(OURS[LAYERS[self.name].module], self.name)(**inputs)[1]
        return compare_gradients(came, {"dx": right}, numeric, axes, sizes)

    def gradients(self, student):
        remarks = [self._gradients(student, draw(self.name, sizes), sizes) for sizes in (SIZES, ONES)]
        return next(filter(None, remarks), None)

    def stable(self, student):
        inputs = loud(self.name, draw(self.name, SIZES))
        self._compare(student, inputs, SIZES)
        right = getattr(OURS[LAYERS[self.name].module], self.name)(**inputs)[1]
        compare(self.ask(student, inputs)[1], {"dx": right}, {"dx": LAYERS[self.name].inputs["x"]}, SIZES)


# ---- the model

VOCABULARY = {word: k for k, word in enumerate((*rnn.SPECIAL, "a", "dog", "cat", "runs", "sleeps"))}
CAPTIONS = np.array([[1, 4, 5, 7, 2, 0, 0], [1, 4, 6, 2, 0, 0, 0], [1, 4, 5, 3, 8, 2, 0]])
MODEL_SIZES = dict(N=3, D=4, W=5, H=6, V=len(VOCABULARY))
MODEL_AXES = {
    cell: dict(
        W_proj="D H", b_proj="H", W_embed="V W", Wx=f"W {k}H", Wh=f"H {k}H", b=f"{k}H", W_vocab="H V", b_vocab="V"
    )
    for cell, k in (("rnn", ""), ("lstm", "4"))
}


class Model:
    """The checks of a CaptioningRNN whose parameters the grader sets."""

    def __init__(self, cell):
        self.cell, self.axes = cell, MODEL_AXES[cell]

    def settings(self, dtype):
        sizes = dict(input_dim=MODEL_SIZES["D"], wordvec_dim=MODEL_SIZES["W"], hidden_dim=MODEL_SIZES["H"])
        return {**sizes, "cell_type": self.cell, "dtype": dtype}

    def params(self, dtype="float64", seed=0):
        rng = np.random.default_rng(seed)
        return {name: rng.standard_normal(shape_of(a, MODEL_SIZES)).astype(dtype) for name, a in self.axes.items()}

    def features(self, count, dtype="float64"):
        return np.random.default_rng(2).standard_normal((count, MODEL_SIZES["D"])).astype(dtype)

    def ours(self, params):
        model = rnn.CaptioningRNN(VOCABULARY, **self.settings(np.float64))
        model.params = params
        return model

    def ask(self, student, recipe, method, arguments, params, keep, douts=None):
        settings = {"word_to_idx": VOCABULARY, **self.settings(str(params["Wx"].dtype))}
        return student.ask(
            recipe, "rnn", function="CaptioningRNN", method=method, settings=settings, params=list(params),
            arguments=pack({**arguments, **params}), douts=pack(douts), keep=keep,
        )  # fmt: skip


class ModelLoss(Model):
    """The checks of `CaptioningRNN.loss`."""

    def run(self, student, params, dtype="float64"):
        arguments = {"features": self.features(3, dtype), "captions": CAPTIONS}
        reply = self.ask(student, "call", "loss", arguments, params, 2)
        came = named(reply, ["loss", "grads"])
        if not isinstance(came["grads"], dict):
            what = "an array" if isinstance(came["grads"], np.ndarray) else kind_of(came["grads"])
            raise Broken(f"grads is {what}, expected a dict like params")
        return reply, came["loss"], came["grads"]

    def _right(self, params):
        return self.ours(params).loss(self.features(3), CAPTIONS)

    def _compare_loss(self, loss, params):
        compare({"loss": loss}, {"loss": self._right(params)[0]}, {"loss": ""}, MODEL_SIZES)

    def values(self, student):
        self._compare_loss(self.run(student, self.params())[1], self.params())

    def gradients(self, student):
        params = self.params()
        came = self.run(student, params)[2]
        if missing := [name for name in params if name not in came]:
            raise Failure(f"grads has no {', '.join(missing)}")

        def numeric():
            arguments = {"features": self.features(3), "captions": CAPTIONS}
            reply = self.ask(student, "numeric", "loss", arguments, params, 1 + len(params), {"dloss": 1.0})
            return {name: own for name, own in named(reply, ["features", *params]).items() if name != "features"}

        return compare_gradients(came, self._right(params)[1], numeric, self.axes, MODEL_SIZES)

    def float32(self, student):
        check_dtype(self.run(student, self.params("float32"), "float32")[2])

    def unchanged(self, student):
        check_unchanged(self.run(student, self.params())[0])

    def stable(self, student):
        params = self.params()
        params["b_vocab"] = 1e4 * np.sign(params["b_vocab"])
        _, loss, grads = self.run(student, params)
        self._compare_loss(loss, params)
        compare(grads, self._right(params)[1], self.axes, MODEL_SIZES)


class ModelSample(Model):
    """The checks of `CaptioningRNN.sample`, up to <END>: what follows is not checked."""

    def talkative(self):
        """Parameters with which <NULL> and <START> are never said, and captions of many lengths are."""
        params = self.params(seed=5)
        params["b"][:], params["b_vocab"][:] = 0, 0
        params["b_vocab"][[VOCABULARY["<NULL>"], VOCABULARY["<START>"]]] = -100
        return params

    def run(self, student):
        reply = self.ask(student, "call", "sample", {"features": self.features(12)}, self.talkative(), 1)
        return reply, named(reply, ["captions"])["captions"]

    def right(self):
        """The words of each caption, <END> included."""
        end = VOCABULARY["<END>"]
        captions = self.ours(self.talkative()).sample(self.features(12)).tolist()
        return [caption[: caption.index(end) + 1] if end in caption else caption for caption in captions]

    def values(self, student):
        right = self.right()
        _, came = self.run(student)
        if not isinstance(came, np.ndarray) or came.ndim != 2 or len(came) != len(right):
            shape = f"have shape {came.shape}" if isinstance(came, np.ndarray) else "are no array of numbers"
            raise Failure(f"the captions {shape}, expected (N, max_length) = ({len(right)}, 30)")
        said = [row[: len(words)] for row, words in zip(came.tolist(), right, strict=True)]
        wrong = [photo for photo, words in enumerate(right) if said[photo] != words]
        if wrong:
            k = wrong[0]
            shifted = [VOCABULARY["<START>"], *right[k]][: len(right[k])]
            cause = "; captions begin with the first word that is said, not with <START>" if said[k] == shifted else ""
            raise Failure(
                f"photo {k} gets {_words(said[k])}, expected {_words(right[k])} "
                f"({len(wrong)} of {len(right)} captions differ){cause}"
            )

    def unchanged(self, student):
        check_unchanged(self.run(student)[0])


def _words(words):
    names = dict(enumerate(VOCABULARY))
    return repr(" ".join(names.get(word, f"{word:g}") for word in words[:8]) + " ..." * (len(words) > 8))


# ---- BLEU


class Bleu:
    """The checks of `BLEU_score`, the extra part."""

    pairs = (
        ("a man rides a horse", "a man rides a dog"),
        ("a man rides a horse", "a a a a a"),
        ("a man rides a horse", "a man"),
        ("<START> a man rides <UNK> <END> <NULL>", "a man rides <END>"),
        ("a dog", "two cats"),
    )

    def values(self, student):
        for gt, sample in self.pairs:
            arguments = pack({"gt_caption": gt, "sample_caption": sample})
            reply = student.ask("call", "bleu_utils", function="BLEU_score", arguments=arguments, keep=1)
            name = f"the score of {sample!r} for {gt!r}"
            compare(named(reply, [name]), {name: bleu_utils.BLEU_score(gt, sample)}, {name: ""}, {})


# ---- the table

Line = namedtuple("Line", "function checks needs parts", defaults=("", ()))
# needs: another line, without whose cache this one cannot be tried. parts: lines of functions that this one may call.


def pair(name, part=""):
    """The lines of a forward and its backward; `part` is the layer that they may consist of."""
    forward, backward = f"{name}_forward", f"{name}_backward"
    return (
        Line(forward, Forward(name, forward, ["cache"]), "", [f"{part}_forward"] * bool(part)),
        Line(backward, Backward(name), forward, [f"{part}_backward"] * bool(part)),
    )


TEMPORAL = ("temporal_fc_forward", "temporal_fc_backward", "temporal_softmax_loss")
ASKED = {
    "3 RNN": [*pair("rnn_step"), *pair("rnn", "rnn_step")],
    "4 LSTM": [*pair("lstm_step"), *pair("lstm", "lstm_step")],
    "5 Image captioning": [
        *pair("temporal_fc"),
        Line("temporal_softmax_loss", Loss("temporal_softmax_loss")),
        *(
            Line(f"CaptioningRNN.loss, {cell}", ModelLoss(cell), "", (f"{cell}_forward", f"{cell}_backward", *TEMPORAL))
            for cell in MODEL_AXES
        ),
        *(
            Line(f"CaptioningRNN.sample, {cell}", ModelSample(cell), "", [f"{cell}_step_forward"])
            for cell in MODEL_AXES
        ),
    ],
}
OPTIONAL = [
    *pair("word_embedding"), *pair("fc"), Line("softmax_loss", Loss("softmax_loss")),
    Line("sigmoid", Forward("sigmoid", "sigmoid")), Line("BLEU_score", Bleu()),
]  # fmt: skip


def columns_of(line):
    """The checks that a line has, of COLUMNS."""
    found = [column for column in COLUMNS if hasattr(line.checks, column)]
    name = getattr(line.checks, "name", None)
    return [column for column in found if column != "stable" or name is None or name in LOUD]


def grade_line(line, student, broken):
    """{column: "ok", "FAILS" or "-" (not tried)} and the remarks, one text each.

    broken: the functions that gave nothing to check so far; this one is added where it gives nothing either.
    Raises Missing where the function is not there.
    """
    cells, remarks = dict.fromkeys(columns_of(line), "-"), []
    if line.needs in broken:
        broken.add(line.function)
        line.checks.look(student)
        return cells, [f"not tried: it needs the cache of {line.needs}"]
    for column in cells:
        if column == "stable" and any(remark.startswith(POINTS) for remark in remarks):
            continue  # what is wrong for small numbers is wrong for large ones
        try:
            remark = getattr(line.checks, column)(student)
            cells[column] = "ok"
        except Missing:
            broken.add(line.function)
            raise
        except Broken as failure:
            if column in POINTS:
                broken.add(line.function)
            cells[column] = "FAILS"
            remarks.append(f"{column}: {failure}")
            break
        except Failure as failure:
            cells[column], remark = "FAILS", str(failure)
        if remark:
            remarks.append(f"{column}: {remark}")
    return cells, remarks


def called(line, folder):
    """The names that a student's function mentions; for a model's method, those that its whole file mentions."""
    try:
        module = "rnn" if isinstance(line.checks, Model) else LAYERS[line.checks.name].module
        tree = ast.parse((folder / f"{module}.py").read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()
    body = [node for node in tree.body if getattr(node, "name", None) == line.function] or [tree]
    return {getattr(node, "id", getattr(node, "attr", None)) for part in body for node in ast.walk(part)}


def print_line(function, cells, remarks):
    """One line of the table and the remarks below it."""
    row = "".join(f"{cells.get(column, ''):>12}" for column in COLUMNS)
    print(f"  {function:28}{row}".rstrip(), flush=True)
    for remark in remarks:
        indent = dict(initial_indent=" " * 6, subsequent_indent=" " * 8)
        print("\n".join(textwrap.wrap(shown(remark, 600), WIDTH, **indent)), flush=True)


def grade(student):
    """Grades and prints line by line. Returns {part of the handout: (points, of)} and (extras, of)."""
    broken, failed, points, extras = set(), set(), {}, [0, 0]

    def count(cells, columns, so_far):
        asked = [cells[column] for column in columns if column in cells]
        return [so_far[0] + asked.count("ok"), so_far[1] + len(asked)]

    print(f"  {'':28}{'asked for':>18}{'not asked for':>33}")
    print(f"  {'':28}" + "".join(f"{column:>12}" for column in COLUMNS))
    for part, lines in ASKED.items():
        print(part)
        points[part] = [0, 0]
        for line in lines:
            try:
                cells, remarks = grade_line(line, student, broken)
            except Missing as failure:
                cells = {column: "FAILS" if column in POINTS else "-" for column in columns_of(line)}
                remarks = [str(failure)]
            if {"FAILS", "-"} & {cells.get(column) for column in POINTS}:
                failed.add(line.function)
                if guilty := [name for name in line.parts if name in failed and name in called(line, student.folder)]:
                    remarks.append(f"it calls {', '.join(guilty)}, which failed above: mend that first")
            print_line(line.function, cells, remarks)
            points[part] = count(cells, POINTS, points[part])
            extras = count(cells, COLUMNS[2:], extras)
    print("Helpers and the extra part: no points, checked where they are there")
    for line in OPTIONAL:
        try:
            cells, remarks = grade_line(line, student, broken)
            extras = count(cells, COLUMNS, extras)
        except Missing:
            cells, remarks = {COLUMNS[0]: "not there"}, []
        print_line(line.function, cells, remarks)
    return points, extras


def submission(folder):
    """The folder as a Path. Raises UserError where it is none, or holds none of the files to grade."""
    folder = Path(folder)
    if not folder.is_dir():
        what = "is no folder; unpack it and name the folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}")
    names = [f"{module}.py" for module in OURS]
    if not any((folder / name).is_file() for name in names):
        below = sorted(path.parent for name in names[:3] for path in folder.glob(f"*/{name}"))
        hint = f"; there are some in {below[0]}" if below else ""
        raise UserError(f"{folder}: holds none of {', '.join(names)}{hint}")
    return folder


def main(argv=None):
    """Checks a student's rnn_layers.py, layers.py, rnn.py and bleu_utils.py, function by function.

    The handout's functions get points for values and gradients; what it does not ask for (float32 kept, arguments
    unchanged, stable for large numbers, helpers, BLEU) is shown beside them without points. The student's code runs in
    a process of its own, and nothing is written into DIR. The exit status is 0 whatever the points, and 2 where there
    is nothing to grade.
    """
    parser = Parser(prog="python -m tests.grade", description=main.__doc__)
    parser.add_argument("submission", metavar="DIR", help="the student's folder")
    parser.add_argument(
        "--timeout", type=number(0.1, float, below=1e6), default=20, metavar="S",
        help="seconds for one call; a function that takes longer is stopped, and the next one goes on",
    )  # fmt: skip
    args = parser.parse_args(argv)
    folder = submission(args.submission)
    print(f"grading {shown(folder, 500)}\n")
    with Student(folder, args.timeout) as student:
        points, extras = grade(student)
    print('\nFAILS: the lines below it say why; "-": not tried; a blank: there is no such check')
    print("stable: x, b or b_vocab is ±10,000\n")
    for part, (got, most) in points.items():
        print(f"{part:26}{got:4} of {most:2} points")
    got, most = (sum(column) for column in zip(*points.values(), strict=True))
    print(f"{'total':26}{got:4} of {most:2} points for what the handout asks for")
    print(f"{'beside it':26}{extras[0]:4} of {extras[1]:2} checks of what it does not ask for")


if __name__ == "__main__":
    run_main(main, on_stop="nothing was written")
