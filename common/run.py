"""A run of a script: its folder, results.json, checkpoints, and the loop over epochs."""

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
    """The torch device for `--device`. Raises UserError for "cuda" if there is no GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no CUDA device; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def seed_all(*parts):
    """Seeds random, numpy and torch from `parts` (numbers, strings)."""
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def wilson_interval(share, count, z=1.96):
    """The 95% interval of a share (0..1) observed in `count` trials (Wilson 1927)."""
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)


def epochs(count, seed, checkpoint=None, every=1, **parts):
    """Yields the epochs of 0 ... count - 1 that are not done yet.

    Loads the parts, objects with state_dict() and load_state_dict(), from the file `checkpoint` if it exists; saves
    them every `every` epochs and after the last one. Each epoch is seeded by (seed, epoch), so that a resumed run gives
    the results of an uninterrupted one. Raises UserError if the checkpoint does not fit.
    """
    done = 0
    if checkpoint and checkpoint.exists():
        try:
            saved = load_tensors(checkpoint)
            done = saved["epochs done"]
            for name, part in parts.items():
                part.load_state_dict(saved[name])
        except Exception:  # torch raises many kinds of errors for a broken file
            raise UserError(f"{checkpoint}: broken, or from another version; --restart starts over") from None
    for epoch in range(done, count):
        seed_all(seed, epoch)
        yield epoch
        if checkpoint and ((epoch + 1) % every == 0 or epoch + 1 == count):
            saved = {name: part.state_dict() for name, part in parts.items()}
            save_tensors(checkpoint, saved | {"epochs done": epoch + 1})


class History(dict):
    """Lists with one number per epoch, by name; a part for `epochs`."""

    state_dict, load_state_dict = dict.copy, dict.update

    def add(self, **values):
        for name, value in values.items():
            self.setdefault(name, []).append(value)


class Best:
    """The state of a model at its best score, the first in a tie; a part for `epochs`."""

    def __init__(self):
        self.score, self.state = -math.inf, None

    def offer(self, score, model):
        """Keeps a copy of the model's state if the score is the best so far."""
        if score > self.score:
            self.score, self.state = score, copy.deepcopy(model.state_dict())

    def state_dict(self):
        return vars(self)

    def load_state_dict(self, state):
        vars(self).update(state)


def check_finite(loss, label, advice):
    """Raises UserError if the loss, a float, is not finite."""
    if not math.isfinite(loss):
        raise UserError(f"{label}: the loss is not finite; {advice}")


def save_tensors(path, content):
    """Writes tensors, numbers, strings, and dicts and lists of them."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def load_tensors(path):
    """Reads what `save_tensors` wrote, to the CPU. Never runs code from the file."""
    if zipfile.ZipFile(path).testzip():
        raise ValueError("a checksum is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


def write_json(path, content):
    """Writes indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load_model(path, script, build):
    """(build(saved), saved) for a file that `Run.model` wrote. Raises UserError unless it is a model of `script`."""
    try:
        saved = load_tensors(path)
        if saved["script"] == script:
            return build(saved), saved
    except Exception:  # torch.load and build raise many kinds of errors
        pass
    found = "is not" if Path(path).exists() else "no such file; it should be"
    raise UserError(f"{path}: {found} a model that {script}.py saved; train again, or give another --model")


def find_model(args, script, runs, files):
    """The path from `--model`, else the first of `files` in the folders `runs`; with --quick, only in quick runs."""
    runs = [run for run in runs if run.endswith("-quick") or not args.quick]
    found = [path for run in runs for file in files if (path := Path(args.results, run, file)).is_file()]
    if not args.model and not found:
        raise UserError(f"{args.results}: has no trained model yet; run 'python {script}.py', or give --model FILE")
    return Path(args.model or found[0])


def code_hash():
    """A hash of the scripts and layers: a resumed run must not mix old weights and new code."""
    files = sorted(Path(__file__).parent.parent.glob("[!.]*.py"))  # without an editor's hidden files
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def versions():
    """What the results may depend on: versions, the machine, threads."""
    found = {name: sys.modules[name].__version__ for name in ("numpy", "torch", "torchvision") if name in sys.modules}
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    machine = f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads{gpu}"
    return {"python": platform.python_version(), **found, "machine": machine}


class Run:
    """One run of a script, in the folder `<--results>/<script>` (`<script>-quick` with --quick).

    It writes to `<folder>.partial`, which replaces the folder at the end: a failed run leaves earlier results
    untouched. An unfinished run with the same settings and code is resumed, unless --restart is given. data, weights:
    their names. settings: a flat dict of everything else that the results depend on. Entering raises UserError if
    another run uses the folder or it cannot be written.
    """

    def __init__(self, script, args, data, weights, settings):
        self.folder = Path(args.results, script + "-quick" * args.quick)
        self.partial, self.old = Path(f"{self.folder}.partial"), Path(f"{self.folder}.old")
        self.lock = FileLock(self.folder.with_name(f".{self.folder.name}.lock"), timeout=0)
        about = {"script": script, "data": data, "weights": weights, "seed": args.seed}
        self.saved = {**about, "settings": settings}
        self.identity = json.loads(json.dumps({**settings, **about, "code": code_hash()}))  # a tuple becomes a list
        self.restart, self.started = args.restart, time.perf_counter()
        self.plots, self.models, self.texts, self.seconds = [], [], [], {}

    def __enter__(self):
        with user_errors(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.lock.acquire()
            except Timeout:
                raise UserError(f"{self.folder}: is in use by another run; wait, or give another --results") from None
            if any(p.is_symlink() or p.exists() and not p.is_dir() for p in (self.folder, self.partial, self.old)):
                raise UserError(f"{self.folder}: is a link or a file; move it away, or give another --results")
            if self.old.exists():  # `finish` was killed
                shutil.rmtree(self.old) if self.folder.exists() else self.old.rename(self.folder)
            if self.partial.exists() and not self._resumes():
                shutil.rmtree(self.partial)
            self.partial.mkdir(exist_ok=True)
        write_json(self.partial / "run.json", self.identity)
        return self

    def _resumes(self):
        """True if `partial` has an unfinished run with the same settings and code. Prints this, or what changed."""
        file = self.partial / "run.json"
        if self.restart or not file.exists():
            return False
        before, now = json.loads(file.read_text(encoding="utf-8")), self.identity
        for key in {**now, **before}:
            if (was := before.get(key)) != (value := now.get(key)):
                values = f"the unfinished run had {key} = {shown(was, 60)}, now {shown(value, 60)}"
                print(f"starting over: {'the code has changed' if key == 'code' else values}")
                return False
        print(f"resuming the unfinished run in {shown(self.partial)} (--restart starts over)")
        return True

    def __exit__(self, kind, *_):
        if kind and not any(self.partial.glob("checkpoint-*")):
            shutil.rmtree(self.partial, ignore_errors=True)
        self.lock.release()

    def checkpoint(self, name):
        """The path of the checkpoint of one part of the run, for `epochs`."""
        return self.partial / f"checkpoint-{name}.pt"

    def figure(self, figure, file, title, caption):
        """Saves a matplotlib figure and records it for results.json with a title and a caption."""
        plots.save(figure, self.partial / file)
        self.plots.append({"file": file, "title": title, "caption": caption})

    def picture(self, image, file, title, caption):
        """Saves a PIL image as a PNG in full resolution and records it as `figure` does."""
        with user_errors(self.partial / file):
            image.save(self.partial / file)
        self.plots.append({"file": file, "title": title, "caption": caption})

    def model(self, file, content):
        """Saves a trained model: its weights and what is needed to use them."""
        save_tensors(self.partial / file, {"script": self.saved["script"], "data": self.saved["data"], **content})
        self.models.append(file)

    def text(self, file, lines):
        """Saves lines of text: predictions, examples."""
        write_text(self.partial / file, "".join(f"{line}\n" for line in lines))
        self.texts.append(file)

    def finish(self, metrics, columns, rows):
        """Writes results.json, moves the folder into place, prints the table and the paths of the plots.

        metrics: nested dicts and lists of numbers. columns, rows: the table, cells as text.
        """
        self.seconds["total"] = time.perf_counter() - self.started
        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        results = {**self.saved, "metrics": metrics, "table": {"columns": columns, "rows": rows}, "seconds": seconds}
        results |= {"versions": versions(), "plots": self.plots, "models": self.models, "texts": self.texts}
        write_json(self.partial / "results.json", results)
        with user_errors(self.folder):
            if self.folder.exists():
                os.rename(self.folder, self.old)
            os.rename(self.partial, self.folder)
            shutil.rmtree(self.old, ignore_errors=True)
            for path in (self.folder / "run.json", *self.folder.glob("checkpoint-*.pt"), *self.folder.glob(".*.tmp")):
                path.unlink()  # .*.tmp: from a killed `write_bytes`
        print("\n" + shown("{script}: {data}; weights: {weights}; seed {seed}".format(**self.saved), 500))
        print_table(columns, rows)
        for made in self.plots:
            print(f"  {shown(self.folder / made['file'], 500)}  {shown(made['title'])}")
        for file in self.texts:
            print(f"  {shown(self.folder / file, 500)}")
