"""What every script shares: flags, seeds, the results folder, checkpoints, results.json, the one-line error.

A script reads: parse the flags, load the data, then

    with Run("transfer_learning", args, data=..., weights=..., settings=...) as run:
        ...                                # train; run.checkpoint(name) makes it resumable
        run.figure(figure, "curves.png", title, caption)
        run.finish(metrics, columns, rows)

Nothing but the cache of drawn data is written before the `with`, so wrong input leaves no results behind.
"""

import argparse
import contextlib
import errno
import hashlib
import io
import math
import os
import platform
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from data import DataError, plot, stop_early
from data.files import BAD_JSON, alone, read_json, sweep, user_errors, write_bytes, write_json, write_text
from data.tensors import load_tensors, save_tensors

NO_MEMORY = "error: not enough memory; try smaller sizes (see --help)"


# ---- the command line


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows every default that says something."""

    def _get_help_string(self, action):
        silent = action.default is None or action.default is False or action.default == []
        return action.help if silent else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line on stderr with exit status 2, and whose --help shows every default."""

    def __init__(self, **options):
        super().__init__(formatter_class=Help, allow_abbrev=False, **options)

    def parse_args(self, args=None, namespace=None):
        """As argparse's, but an empty text (an unset variable of the shell, say) is an error."""
        self.words = sys.argv[1:] if args is None else args
        flags = super().parse_args(args, namespace)
        for name, value in vars(flags).items():
            if value == "" or (isinstance(value, list) and "" in value):
                self.error(f"argument --{name.replace('_', '-')}: is empty")
        return flags

    def keep_to(self, flag, *others):
        """After `parse_args`: an error where `flag` was given beside one not in `others`, which would do nothing."""
        options = [option for action in self._actions for option in action.option_strings]
        given = [option for option in options if any(f"{word}=".startswith(f"{option}=") for word in self.words)]
        strange = [option for option in given if option not in (flag, *others)]
        if flag in given and strange:
            self.error(f"argument {strange[0]}: does nothing beside {flag}; leave one of them out")

    def error(self, message):
        raise DataError(f"{message}; see {self.prog} --help")


def at_least(low, kind=int, below=float("inf")):
    """An argparse type: a number of `kind`, finite, `low` or more and less than `below`."""

    def number(text):
        value = kind(text)
        if not low <= value < below:  # NaN is not either
            limit = "" if below == float("inf") else f" and below {below}"
            raise argparse.ArgumentTypeError(f"must be a finite number of at least {low}{limit}, got {text}")
        return value

    number.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return number


def add_common_flags(parser, quick):
    """Adds the flags that every script has; --epochs or --steps is the script's own. quick: what --quick changes."""
    parser.add_argument(
        "--data", metavar="DIR", help="folder with the real data, or 'builtin' (default: data/ if it is there)"
    )
    parser.add_argument("--results", metavar="DIR", default="results", help="folder to write to")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA where there is a GPU"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run that was stopped, from its last checkpoint"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"a first look in seconds: {quick}; results in a folder of their own"
    )


def add_seed_flag(parser):
    """Adds --seed, for the scripts that train with one seed."""
    parser.add_argument("--seed", type=at_least(0, below=2**31), default=0, help="the same seed gives the same numbers")


def run_main(main, go_on="the same command with --resume goes on from the last checkpoint"):
    """Runs `main()`; wrong input ends in one line on stderr and exit status 2, Ctrl-C in one line and 130.

    go_on: what that line tells a user who pressed Ctrl-C.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name that this terminal cannot write
    try:
        if signal.getsignal(signal.SIGINT) is stop_early:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        sys.stdout.flush()
    except DataError as error:
        # What a process that reads photos raised comes with its traceback before it.
        sys.exit(_last_words(f"error: {str(error).rpartition('DataError: ')[2].strip()}", 2))
    except MemoryError:
        sys.exit(_last_words(NO_MEMORY, 2))
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):  # CUDA's words, the CPU's
            raise
        sys.exit(_last_words(NO_MEMORY, 2))
    except KeyboardInterrupt:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # pressed twice it is one line too
        sys.exit(_last_words(f"stopped; {go_on}", 130))
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        # Even asking whether a file is there can fail: the name is too long, its folder may not be entered.
        sys.exit(_last_words(f"error: {error.filename or 'standard output'}: {error.strerror}", 2))


def _last_words(message, status):
    line = shown(message, 10_000)
    print(line if len(line) < 1000 else f"{line[:600]} ... {line[-300:]}", file=sys.stderr)
    return status


def shown(text, most=200):
    """`text` as it may be printed or drawn: one line, control characters escaped, cut behind `most` characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: most + 1])
    return text if len(text) <= most else text[:most] + " ..."


def pick_device(name):
    """The torch device for `--device`. Raises DataError where CUDA was asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DataError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")


def seed_all(*parts):
    """Seeds random, numpy and torch from `parts` (numbers, strings).

    Called with the epoch among the parts at the start of every epoch, so that a resumed run needs no generator states.
    """
    number = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def wilson_interval(share, count, z=1.96):
    """The 95% interval of a share seen in `count` trials (Wilson 1927)."""
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)


# ---- a run and its folder


class Checkpoint:
    """One resumable piece of a run (a scenario, a picture): `load()` gives what the last `save(state)` took.

    identity: a flat dict of all that the numbers depend on; a checkpoint of another one is refused.
    """

    def __init__(self, path, identity):
        self.path, self.identity = path, identity

    def load(self):
        """The saved state, or None where there is none. Raises DataError on a broken or a foreign checkpoint."""
        if not self.path.exists():
            return None
        content = load_tensors(self.path, "a checkpoint (leave out --resume to start anew)")
        parts = [content.get(name) for name in ("identity", "state")] if isinstance(content, dict) else [None]
        if not all(isinstance(part, dict) for part in parts):
            raise DataError(f"{self.path}: is no checkpoint of this project; leave out --resume to start anew")
        check_identity(self.path, content["identity"], self.identity)
        return content["state"]

    @contextlib.contextmanager
    def fits(self):
        """While a loaded state is put to use: what one with other parts raises becomes a DataError."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            raise DataError(f"{self.path}: does not fit; leave out --resume to start anew") from None

    def save(self, state):
        """Keeps `state`: tensors, numbers, strings, and dicts and lists of them."""
        save_tensors(self.path, {"identity": self.identity, "state": state})


def check_history(history, names):
    """Raises ValueError where a checkpoint's `history` is no dict of lists of numbers with all of these names.

    All lists are equally long, but that of `step_loss`, which has a number a step and not one an epoch.
    """
    lists = list(history.values()) if isinstance(history, dict) and history.keys() >= set(names) else [None]
    if not all(isinstance(values, list) and all(isinstance(x, (int, float)) for x in values) for values in lists):
        raise ValueError("no history")
    if len({len(values) for name, values in history.items() if name != "step_loss"}) != 1:
        raise ValueError("a history of unequal lists")


def check_identity(path, saved, current):
    """Raises DataError, naming the first difference, where a run to resume was made with other settings."""
    for key in current:
        if repr(saved.get(key)) != repr(current[key]):
            raise DataError(
                f"{path}: belongs to a run with {key} = {shown(saved.get(key))}, this one has {shown(current[key])}; "
                "give the same flags, or leave out --resume to start anew"
            )


class Run:
    """One run of a script: its folder `<--results>/<script>` (`<script>-quick` with --quick), kept to itself by a lock.

    What it writes lies in the folder's own folder `unfinished` until `finish` moves it up, so that a run which fails,
    for want of room or otherwise, leaves the results of the run before as they were.

    data, weights: what the plots and results.json say they show. settings: a flat dict of all else that the numbers
    depend on. `finished` is the results.json of an equal run that is done, where --resume finds one, else None.
    Raises DataError on entering: another run is busy in the folder, it cannot be written, or --resume finds a run of
    other settings.
    """

    def __init__(self, script, args, data, weights, settings):
        self.script, self.resume = script, args.resume
        self.folder = Path(args.results) / (script + "-quick" * args.quick)
        self.saved = dict(script=script, data=data, weights=weights, seed=args.seed, settings=settings)
        self.identity = {**settings, **{key: self.saved[key] for key in ("script", "data", "weights", "seed")}}
        self.unfinished = self.folder / "unfinished"
        self.plots, self.models, self.texts, self.seconds, self.finished = [], [], [], {}, None
        self.started = time.perf_counter()

    def __enter__(self):
        with user_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(alone(self.folder, "wait for it, or give another --results"))
            if self.unfinished.is_symlink() or (self.unfinished.exists() and not self.unfinished.is_dir()):
                raise DataError(f"{self.unfinished}: should be a folder of this program's own; remove it")
            for folder in (self.folder.parent / "cache", self.folder, self.unfinished):
                sweep(folder)
            self._take_up() if self.resume else self._start_anew()
            self.lock = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.lock.close()

    def _checkpoints(self):
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def _clear(self):
        """Removes all that a run which is not finished leaves."""
        with user_errors(self.unfinished):
            if self.unfinished.exists():
                shutil.rmtree(self.unfinished)
        self._remove(self._checkpoints())

    def _remove(self, paths):
        for path in paths:
            with user_errors(path):
                path.unlink(missing_ok=True)

    def _start_anew(self):
        self._clear()
        self.checkpoint("start").save({})  # from here on, what an earlier run left is not what --resume goes on with

    def _take_up(self):
        for path in self._checkpoints():
            Checkpoint(path, self.identity).load()
        saved = self.folder / "results.json"
        if self._checkpoints():
            return
        self.finished = read_results(saved)
        if self.finished:
            check_identity(saved, {**self.finished["settings"], **self.finished}, self.identity)
            self._clear()
        else:
            print(f"--resume: no checkpoint in {shown(self.folder)}; starting anew")
            self._start_anew()

    def checkpoint(self, name):
        """The Checkpoint of the part `name` of this run."""
        return Checkpoint(self.folder / f"checkpoint-{name}.pt", self.identity)

    def figure(self, figure, file, title, caption):
        """Saves a matplotlib figure as `file` and notes it for results.json with a title and what to look for in it."""
        plot.save_figure(figure, self.unfinished / file)
        self.plots.append({"file": file, "title": title, "caption": caption})

    def picture(self, image, file, title, caption):
        """Saves a PIL image as a PNG, pixel by pixel, and notes it as `figure` does."""
        buffer = io.BytesIO()
        image.save(buffer, format="png")
        write_bytes(self.unfinished / file, buffer.getbuffer())
        self.plots.append({"file": file, "title": title, "caption": caption})

    def model(self, file, content):
        """Saves a trained model as `file`: its weights and what it takes to use them."""
        save_tensors(self.unfinished / file, content)
        self.models.append(file)

    def text(self, file, lines):
        """Saves lines of text as `file`: predictions, examples."""
        write_text(self.unfinished / file, "".join(f"{line}\n" for line in lines))
        self.texts.append(file)

    def _files(self):
        return [*(made["file"] for made in self.plots), *self.models, *self.texts]

    def _move_up(self, file):
        with user_errors(self.folder / file):
            os.replace(self.unfinished / file, self.folder / file)

    def _outdated(self):
        """The files that the results.json of the run before names and this run has not."""
        try:
            before = read_results(self.folder / "results.json") or {"plots": []}
            names = {*(made["file"] for made in before["plots"]), *before.get("models", ()), *before.get("texts", ())}
            names = {name for name in names if name.endswith((".png", ".pt", ".txt")) and "checkpoint-" not in name}
            names -= {*self._files()}
            return [path for name in names if (path := self.folder / Path(name).name).is_file()]
        except (DataError, *BAD_JSON):  # no results.json of ours: nothing is known to be outdated
            return []

    def finish(self, metrics, columns, rows):
        """Writes results.json, moves all files up, prints the table and the paths of the plots, drops the checkpoints.

        Files of the run before that this one did not write again go too: the folder shows one run.

        metrics: nested dicts and lists of numbers. columns, rows: the short table, cells as text.
        Raises DataError, before anything is moved, where a file of this run is gone or a folder is in its way.
        """
        for path in (self.unfinished / file for file in self._files()):
            if not path.is_file():
                raise DataError(f"{path}: was removed while the run was busy; --resume makes it again")
            if (self.folder / path.name).is_dir():
                raise DataError(f"{self.folder / path.name}: is a folder; remove it, then go on with --resume")
        self.seconds["total"] = time.perf_counter() - self.started
        results = {
            **self.saved, "metrics": metrics, "table": {"columns": columns, "rows": rows},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "versions": versions(), "plots": self.plots, "models": self.models, "texts": self.texts,
        }  # fmt: skip
        write_json(self.unfinished / "results.json", results)
        for file in self._files():
            self._move_up(file)
        self._remove(self._outdated())
        self._move_up("results.json")  # the last: as long as the old one is there, a kill loses nothing
        self._clear()
        show_results(results, self.folder)


def model_file(args, script, runs, files):
    """The file of the model to use: `--model`, or else the first of `files` in the first of `runs` that has one.

    runs: folders below `--results`, the best first; with --quick those of a quick look alone.
    Raises DataError, which names the script to run, where there is none.
    """
    if args.model:
        return Path(args.model)
    for run in runs:
        for file in files if run.endswith("-quick") or not args.quick else ():
            if (path := Path(args.results, run, file)).is_file():
                return path
    raise DataError(f"{args.results}: holds no trained model yet; run 'python {script}' first, or give --model FILE")


def versions():
    """What a number may depend on: versions, the machine, threads."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    if "torchvision" in sys.modules:
        found["torchvision"] = sys.modules["torchvision"].__version__
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {**found, "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads{gpu}"}


def read_results(path):
    """A results.json as a dict, or None where there is none. Raises DataError where it is broken."""
    if not Path(path).is_file():
        return None
    try:
        found = read_json(path)
        columns, rows = found["table"]["columns"], found["table"]["rows"]
        texts = [found["script"], found["data"], found["weights"], *columns, *(cell for row in rows for cell in row)]
        texts += [made[key] for made in found["plots"] for key in ("file", "title", "caption")]
        if not isinstance(found["settings"], dict) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        if not all(isinstance(part, list) for part in (columns, rows, *rows, found["plots"])):
            raise ValueError
        if not columns or any(len(row) != len(columns) for row in rows):
            raise ValueError
        return found
    except BAD_JSON:
        raise DataError(f"{path}: is no results.json of this project; remove it and run the script again") from None


def show_results(results, folder):
    """Prints the table of a finished run and where its plots lie."""
    about = f"{results['script']}: {results['data']}; weights: {results['weights']}; seed {results['seed']}"
    print(f"\n{shown(about, 500)}")
    print_table(results["table"]["columns"], results["table"]["rows"])
    for made in results["plots"]:
        print(f"  {shown(Path(folder) / made['file'], 500)}  {shown(made['title'])}")


def print_table(columns, rows):
    """Prints rows of text under their column names, each column as wide as it needs."""
    rows = [[shown(cell) for cell in row] for row in rows]
    widths = [max(len(str(row[k])) for row in [columns, *rows]) for k in range(len(columns))]
    for row in [columns, ["-" * width for width in widths], *rows]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# ---- the overview of all results


def homework_order(name):
    """Where the homework has the problem whose results lie in a folder of that name; behind all of them for others."""
    problems = ("transfer_learning", "style_transfer", "image_captioning", "sentiment")
    return next((k for k, problem in enumerate(problems) if name.startswith(problem)), len(problems))


def main(argv=None):
    """`python -m data.results [DIR]`: one table of all the results that lie under DIR, and the paths of their plots."""
    parser = Parser(prog="python -m data.results", description=main.__doc__)
    parser.add_argument("results", nargs="?", default="results", metavar="DIR", help="the results folder")
    folder = Path(parser.parse_args(argv).results)
    paths = sorted(folder.glob("*/results.json"), key=lambda path: (homework_order(path.parent.name), path))
    found = {path.parent: read_results(path) for path in paths}
    if not found:
        raise DataError(f"{folder}: no results there; run a script first")
    rows = []
    for at, results in found.items():
        names = results["table"]["columns"][1:]
        for row in results["table"]["rows"]:
            figures = ", ".join(f"{name} {cell}" for name, cell in zip(names, row[1:], strict=True) if cell)
            rows.append([at.name, results["data"], row[0], figures])
    print_table(["script", "data", "what", "figures"], rows)
    print("\nplots:")
    for at, results in found.items():
        for made in results["plots"]:
            print(f"  {shown(at / made['file'], 500)}  {shown(made['title'])}")


if __name__ == "__main__":
    run_main(main)
