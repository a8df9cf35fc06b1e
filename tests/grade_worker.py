"""The process in which tests/grade.py runs a student's code: one JSON line in, one JSON line out, only numpy.

python grade_worker.py FOLDER: FOLDER stands first on sys.path, and nothing of this project stands there at all. What
the student's code prints goes nowhere, and what it would read from the keyboard is empty. No pickle crosses the pipe:
the grader could not load one from here without running it.
"""

import base64
import importlib
import importlib.util
import json
import os
import random
import sys
import traceback
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MOST = 1_000_000  # numbers in an array that are worth sending: a larger one has a wrong shape


class Absent(Exception):
    """The student's code lacks what the job asks for; the message says what."""


# ---- what crosses the pipe


def pack(value):
    """A value as JSON can hold it: an array, a number, a text, None, lists and dicts of them; else its type's name."""
    if value is None:
        return {"none": True}
    if isinstance(value, str):
        return {"text": value[:1000]}
    if isinstance(value, (list, tuple)):
        return {"list": [pack(part) for part in value]}
    if isinstance(value, dict):
        return {"dict": {str(name): pack(part) for name, part in value.items()}}
    if isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        array = np.asarray(value)
        about = {"dtype": str(array.dtype), "shape": array.shape}
        if array.dtype.kind in "fiub" and array.dtype.itemsize <= 8 and array.size <= MOST:
            about["bytes"] = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"array": about}
    return {"other": type(value).__name__}


class Other:
    """What came instead of an array: `name` says what it is."""

    def __init__(self, name, shape=None):
        self.name, self.shape = name, shape


def unpack(packed):
    """What `pack` was given; `Other` where it could not be sent. Arrays are new and may be written to."""
    [(kind, content)] = packed.items()
    return UNPACK[kind](content)


def _array(about):
    dtype, shape = about["dtype"], tuple(map(int, about["shape"]))
    if "bytes" not in about:
        return Other(f"an array of {str(dtype)[:40]}", shape)
    content = base64.b64decode(about["bytes"])
    if np.dtype(dtype).kind not in "fiub":
        raise ValueError(f"dtype {dtype}")
    return np.frombuffer(content, dtype).reshape(shape).copy()


UNPACK = {
    "none": lambda _: None,
    "text": str,
    "list": lambda parts: [unpack(part) for part in parts],
    "dict": lambda parts: {name: unpack(part) for name, part in parts.items()},
    "array": _array,
    "other": lambda name: Other(f"a {name}"),
}


# ---- the student's functions


def plain_function(module, function):
    """The function of that name."""
    found = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise Absent(f"{module}.py has no function {function}")
    return found


def model_method(module, function, method, settings, params):
    """A model's method as a function of its own arguments and then the parameters, in the order of `params`."""
    settings = {**settings, "dtype": np.dtype(settings["dtype"]).type}

    def run(*arguments):
        count = len(arguments) - len(params)
        model = plain_function(module, function)(**settings)
        if not isinstance(getattr(model, "params", None), dict):
            raise Absent(f"{function} has no dict params")
        if missing := [name for name in params if name not in model.params]:
            raise Absent(f"{function}.params has no {missing[0]!r}; it has {', '.join(map(str, model.params))}")
        model.params.update(zip(params, arguments[count:], strict=True))
        if not callable(getattr(model, method, None)):
            raise Absent(f"{function} has no method {method}")
        return getattr(model, method)(*arguments[:count])

    return run


def find(job):
    """The function that a job is about."""
    return (model_method if "method" in job else plain_function)(
        **{name: job[name] for name in ("module", "function", "method", "settings", "params") if name in job}
    )


def results_of(returned):
    """What a function returned, as a list: its elements where it is a tuple or a list, else only itself."""
    return list(returned) if isinstance(returned, (tuple, list)) else [returned]


def reply(returned, keep, before, arguments):
    """The first `keep` results, how many there are (0: None came), and the arguments that are not what they were."""
    results = results_of(returned)
    changed = [
        name
        for (name, was), now in zip(before.items(), arguments, strict=True)
        if isinstance(was, np.ndarray) and (was.shape != now.shape or was.tobytes() != now.tobytes())
    ]
    count = 0 if returned is None else len(results)
    return {"results": [pack(result) for result in results[:keep]], "count": count, "changed": changed}


def call(job, keep):
    """The function's results for these arguments."""
    before, arguments = unpack(job["arguments"]), list(unpack(job["arguments"]).values())
    return reply(find(job)(*arguments), keep, before, arguments)


def backward(job, keep):
    """The results of the function for these douts and the cache that its forward makes from the arguments."""
    inputs, douts = unpack(job["arguments"]), unpack(job["douts"])
    forward = plain_function(job["module"], job["forward"])
    function = find(job)
    *_, cache = results_of(forward(*inputs.values()))
    before = {name: np.copy(a) for name, a in {**inputs, **douts}.items()}  # the forward's changes are its own
    returned = function(*douts.values(), cache)
    return reply(returned, keep, before, [*inputs.values(), *douts.values()])


def numeric(job, keep):
    """Numeric gradients of Σ results · douts of the function, for each argument of floats."""
    function, arguments, douts = find(job), unpack(job["arguments"]), list(unpack(job["douts"]).values())

    def total(changed, name):
        copies = {k: np.copy(changed if k == name else a) for k, a in arguments.items()}
        results = results_of(function(*copies.values()))
        if any(np.shape(result) != np.shape(dout) for result, dout in zip(results, douts, strict=False)):
            raise ValueError("results of other shapes have no such gradients")
        return float(sum(np.sum(result * dout) for result, dout in zip(results, douts, strict=False)))

    gradients = [
        gradient_check.numeric_gradient(lambda changed, name=name: total(changed, name), value)
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    ]
    return {"results": [pack(gradient) for gradient in gradients], "count": len(gradients), "changed": []}


def load(job, keep):
    """Imports the module."""
    importlib.import_module(job["module"])
    return {"results": [], "count": 0, "changed": []}


def look(job, keep):
    """Whether the function is there."""
    find(job)
    return {"results": [], "count": 0, "changed": []}


RECIPES = {"load": load, "look": look, "call": call, "backward": backward, "numeric": numeric}


# ---- the loop


def explain(error, folder):
    """One line: where in the student's files, the error's type and message."""
    if isinstance(error, Absent):
        return str(error)
    at = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        at.append((error.filename or "", error.lineno))
    at = [(Path(name).resolve(), line) for name, line in at if name and not name.startswith("<")]
    at = [f"{name.relative_to(folder)} line {line}: " for name, line in at if name.is_relative_to(folder)]
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, SystemExit):
        return f"{at[-1] if at else ''}ends the program (sys.exit)"
    kind = type(error).__name__
    return f"{at[-1] if at else ''}{kind}{': ' if message else ''}{message}"


def answer(job, folder):
    """The reply to a job; whatever the student's code raises, sys.exit included, becomes a line."""
    np.random.seed(0)
    random.seed(0)
    try:
        return RECIPES[job["recipe"]](job, job.get("keep", 0))
    except BaseException as error:
        return {"error": explain(error, folder)[:1000], "absent": isinstance(error, Absent)}


def private_pipes():
    """The pipes to the grader, out of the student's reach: in place of 0, 1 and 2 there is nothing."""
    jobs, replies = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    return jobs, replies


def main(folder):
    """Answers jobs until there are no more."""
    jobs, replies = private_pipes()
    folder = Path(folder).resolve()
    strangers = {HERE, HERE.parent}  # a student's missing layers.py must not be found here
    sys.path[:] = [str(folder), *(path for path in sys.path if path and Path(path).resolve() not in strangers)]
    print("ready", file=replies, flush=True)
    for line in jobs:
        print(json.dumps(answer(json.loads(line), folder)), file=replies, flush=True)
    os._exit(0)  # no matter what the student's threads are at


if __name__ == "__main__":
    # Under a name of its own: the student may have a gradient_check.py too.
    spec = importlib.util.spec_from_file_location("_grade_gradient_check", HERE / "gradient_check.py")
    gradient_check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gradient_check)
    main(sys.argv[1])
