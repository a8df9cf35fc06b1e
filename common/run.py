"""A run of a script: its folder, results.json, checkpoints, and the loop over epochs.

with Run("sentiment", args, data=..., weights=..., settings=...) as run:
    history, best = History(), Best()
    for epoch in epochs(10, args.seed, run.checkpoint("lstm"), model=model, optimizer=optimizer, history=history):
        ...
    run.figure(figure, "curves.png", title, caption)
    run.finish(metrics, columns, rows)
"""

import copy
import hashlib
import io
import json
import math
import os
import platform
import random
import shutil
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout

from common import plots
from common.cli import UserError, print_table, shown, user_errors, write_bytes, write_text


def pick_device(name):
    """The torch device for `--device`. Raises UserError if CUDA was asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def seed_all(*parts):
    """Seeds random, numpy and torch from `parts` (numbers, strings)."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def wilson_interval(share, count, z=1.96):
    """The 95% interval of a share seen in `count` trials (Wilson 1927)."""
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)


# ---- training loops


def epochs(count, seed, checkpoint=None, every=1, **parts):
    """Yields the numbers of the epochs that are left to do, of 0 ... count - 1.

    Loads `checkpoint` (a path, or None) into the parts first, if it is there. Each epoch draws its random numbers from
    (seed, epoch), so a resumed training equals an undisturbed one. Saves the parts after every `every` epochs and after
    the last. A part has state_dict() and load_state_dict(). Raises UserError if the checkpoint does not fit.
    """
    done = 0
    if checkpoint and checkpoint.exists():
        try:
            saved = load_tensors(checkpoint)
            done = saved["epochs done"]
            for name, part in parts.items():
                part.load_state_dict(saved[name])
        except Exception:  # torch raises a dozen kinds on a broken file
            raise UserError(f"{checkpoint}: broken, or of another version; --restart begins anew") from None
    for epoch in range(done, count):
        seed_all(seed, epoch)
        yield epoch
        if checkpoint and ((epoch + 1) % every == 0 or epoch + 1 == count):
            state = {name: part.state_dict() for name, part in parts.items()}
            save_tensors(checkpoint, {"epochs done": epoch + 1, **state})


class History(dict):
    """Lists of one number an epoch, by name."""

    def add(self, **values):
        for name, value in values.items():
            self.setdefault(name, []).append(value)

    def state_dict(self):
        return dict(self)

    def load_state_dict(self, state):
        self.clear()
        self.update(state)


class Best:
    """The state of a model at its best score, the first of equals."""

    def __init__(self):
        self.score, self.state = -math.inf, None

    def offer(self, score, model):
        if score > self.score:
            self.score, self.state = score, copy.deepcopy(model.state_dict())

    def state_dict(self):
        return {"score": self.score, "state": self.state}

    def load_state_dict(self, state):
        self.score, self.state = state["score"], state["state"]


def check_finite(loss, label, advice):
    """Raises UserError if the loss, a float, is not finite."""
    if not math.isfinite(loss):
        raise UserError(f"{label}: the loss is not finite any more; {advice}")


# ---- files


def save_tensors(path, content):
    """Writes tensors, numbers, strings, and dicts and lists of them."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def load_tensors(path):
    """What `save_tensors` wrote, on the CPU. Never runs code that the file may hold."""
    if zipfile.ZipFile(path).testzip():
        raise ValueError("a checksum is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


def write_json(path, content):
    """Writes indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_model(path, script, build):
    """`build(saved)` of a file that `Run.model` wrote. Never runs code that the file may hold.

    build: makes the model from what was saved. Raises UserError unless the file is a model of `script`.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; it should be a model that {script}.py saved")
    try:
        saved = load_tensors(path)
        if saved["script"] != script:
            raise ValueError
        return build(saved), saved
    except Exception:  # torch.load and build raise a dozen kinds
        raise UserError(
            f"{path}: is not a model that {script}.py saved; train again, or give another --model"
        ) from None


def find_model(args, script, runs, files):
    """The model to use: `--model`, or else the first of `files` in the first of `runs`, folders below --results.

    With --quick only quick runs count. Raises UserError, naming the script to run, if there is none.
    """
    if args.model:
        return Path(args.model)
    for run in runs:
        for file in files if run.endswith("-quick") or not args.quick else ():
            if (path := Path(args.results, run, file)).is_file():
                return path
    raise UserError(f"{args.results}: holds no trained model yet; run 'python {script}.py' first, or give --model FILE")


# ---- a run


def code_hash():
    """Changes with the code of the scripts and layers: a resumed run must not mix old weights and a mended layer."""
    files = sorted(Path(__file__).parent.parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def versions():
    """What a number may depend on: versions, the machine, threads."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    if "torchvision" in sys.modules:
        found["torchvision"] = sys.modules["torchvision"].__version__
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads{gpu}"}


class Run:
    """One run of a script, in the folder `<--results>/<script>` (`<script>-quick` with --quick).

    It writes into `<folder>.partial`, which takes the folder's place at the end: a failed run leaves earlier results
    untouched. An unfinished run with the same settings and the same code is resumed, unless --restart is given.
    data, weights: what plots and results.json say they show. settings: a flat dict of all else that the numbers
    depend on. Raises UserError on entering if another run uses the folder, or it cannot be written.
    """

    def __init__(self, script, args, data, weights, settings):
        self.folder = Path(args.results, script + "-quick" * args.quick)
        self.partial, self.old = (self.folder.with_name(self.folder.name + end) for end in (".partial", ".old"))
        self.lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"), timeout=0)
        self.saved = {"script": script, "data": data, "weights": weights, "seed": args.seed, "settings": settings}
        self.identity = json.loads(json.dumps({**self.saved, "code": code_hash()}))
        self.restart, self.started = args.restart, time.perf_counter()
        self.plots, self.models, self.texts, self.seconds = [], [], [], {}

    def __enter__(self):
        with user_errors(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.lock.acquire()
            except Timeout:
                raise UserError(
                    f"{self.folder}: another run is busy here; wait for it, or give another --results"
                ) from None
            if self.old.exists():  # a kill between the two renames of `finish`
                shutil.rmtree(self.old) if self.folder.exists() else self.old.rename(self.folder)
            if self.partial.exists() and not self._resumes():
                shutil.rmtree(self.partial)
            self.partial.mkdir(exist_ok=True)
        write_json(self.partial / "run.json", self.identity)
        return self

    def _resumes(self):
        """Whether the unfinished run in `partial` is this one; says so, or why not."""
        try:
            before = json.loads((self.partial / "run.json").read_text())
        except (OSError, ValueError):
            before = {}
        before, now = ({**found.pop("settings", {}), **found} for found in (dict(before), dict(self.identity)))
        changed = next((key for key in now if before.get(key) != now[key]), None)
        if not before or self.restart:
            return False
        if changed is None:
            print(f"resuming the unfinished run in {shown(self.partial)} (--restart begins anew)")
        elif changed == "code":
            print("starting anew: the code has changed since the unfinished run")
        else:
            values = f"{changed} = {shown(before.get(changed), 60)}, now {shown(now[changed], 60)}"
            print(f"starting anew: the unfinished run had {values}")
        return changed is None

    def __exit__(self, kind, *_):
        if kind and not any(self.partial.glob("checkpoint-*")):
            shutil.rmtree(self.partial, ignore_errors=True)
        self.lock.release()

    def checkpoint(self, name):
        """The path of the checkpoint of one part of the run, for `epochs`."""
        return self.partial / f"checkpoint-{name}.pt"

    def figure(self, figure, file, title, caption):
        """Saves a matplotlib figure and notes it for results.json with a title and what to look for in it."""
        plots.save(figure, self.partial / file)
        self.plots.append({"file": file, "title": title, "caption": caption})

    def picture(self, image, file, title, caption):
        """Saves a PIL image as a PNG, pixel by pixel, and notes it as `figure` does."""
        with user_errors(self.partial / file):
            image.save(self.partial / file)
        self.plots.append({"file": file, "title": title, "caption": caption})

    def model(self, file, content):
        """Saves a trained model: its weights and what it takes to use them."""
        save_tensors(self.partial / file, {"script": self.saved["script"], "data": self.saved["data"], **content})
        self.models.append(file)

    def text(self, file, lines):
        """Saves lines of text: predictions, examples."""
        write_text(self.partial / file, "".join(f"{line}\n" for line in lines))
        self.texts.append(file)

    def finish(self, metrics, columns, rows):
        """Writes results.json, puts the folder in its place, prints the table and where the plots are.

        metrics: nested dicts and lists of numbers. columns, rows: the table, cells as text.
        """
        self.seconds["total"] = time.perf_counter() - self.started
        results = {
            **self.saved, "metrics": metrics, "table": {"columns": columns, "rows": rows},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "versions": versions(), "plots": self.plots, "models": self.models, "texts": self.texts,
        }  # fmt: skip
        write_json(self.partial / "results.json", results)
        with user_errors(self.folder):
            if self.folder.exists():
                os.rename(self.folder, self.old)
            os.rename(self.partial, self.folder)
            shutil.rmtree(self.old, ignore_errors=True)
            for path in (self.folder / "run.json", *self.folder.glob("checkpoint-*.pt")):
                path.unlink()
        show_results(results, self.folder)


def show_results(results, folder):
    """Prints the table of a finished run and where its files are."""
    about = f"{results['script']}: {results['data']}; weights: {results['weights']}; seed {results['seed']}"
    print(f"\n{shown(about, 500)}")
    print_table(results["table"]["columns"], results["table"]["rows"])
    for made in results["plots"]:
        print(f"  {shown(folder / made['file'], 500)}  {shown(made['title'])}")
    for file in results["texts"]:
        print(f"  {shown(folder / file, 500)}")
