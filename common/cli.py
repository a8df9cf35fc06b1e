"""The command line shared by all scripts: flags, one-line errors, tables, atomic writes of files."""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

MEMORY = "not enough memory; try smaller sizes (see --help)"
WORKERS = "not enough memory, shared memory or open files for the processes that read photos; try --workers 0"
CURES = {"out of memory": MEMORY, "can't allocate memory": MEMORY, "DataLoader worker": WORKERS,
            "open files": WORKERS, "shared memory": WORKERS, "unable to write to file": WORKERS}  # fmt: skip


class UserError(Exception):
    """A problem with the user's files, flags or machine. The message says in one line what to do."""


@contextlib.contextmanager
def user_errors(path):
    """Turns an OSError (disk full, permission denied, a folder in the way) into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def write_bytes(path, content):
    """Writes `content` under a temporary name, then renames it to `path`. Raises UserError, naming the file."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """`write_bytes` of `text` in UTF-8."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # file names may hold bytes that are not Unicode


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of every flag that has one."""

    def _get_help_string(self, action):
        none = action.default in (None, []) or action.default is False
        return action.help if none else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UserError and shows defaults in --help."""

    def __init__(self, **options):
        super().__init__(formatter_class=Help, allow_abbrev=False, **options)

    def error(self, message):
        raise UserError(f"{message}; see {self.prog} --help")

    def parse_args(self, args=None, namespace=None):
        """As in argparse, but an empty value (for example from an unset shell variable) is an error."""
        found = super().parse_args(args, namespace)
        for name, value in vars(found).items():
            if "" in (value if isinstance(value, list) else [value]):
                self.error(f"argument --{name.replace('_', '-')}: is empty")
        return found

    def keep_to(self, args, flag, *others):
        """Raises UserError if `flag` is given together with a flag that is not in `others`."""
        given = [a.option_strings[0] for a in self._actions if getattr(args, a.dest, a.default) != a.default]
        extra = [name for name in given if name not in (flag, *others)]
        if flag in given and extra:
            self.error(f"argument {extra[0]}: has no effect with {flag}; leave one of them out")


def number(low, kind=int, below=float("inf")):
    """An argparse type: a finite number of `kind`, at least `low` and less than `below`."""

    def convert(text):
        value = kind(text)
        if not low <= value < below:  # also rejects NaN
            bound = f"below {below}" if value >= below else f"at least {low}"
            raise argparse.ArgumentTypeError(f"must be {bound}, got {text}")
        return value

    convert.__name__ = kind.__name__  # for argparse's "invalid int value"
    return convert


def add_common_flags(parser, quick):
    """Adds the flags that every script has. quick: what --quick changes."""
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with the real data, or 'builtin' (default: data/ if it has the set)")
    add("--results", metavar="DIR", default="results", help="output folder")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA if there is a GPU")
    add("--restart", action="store_true", help="start over instead of resuming an unfinished run")
    add("--quick", action="store_true", help=f"a first look in seconds: {quick}; results go to a separate folder")


def add_seed_flag(parser):
    """Adds --seed, for scripts that use one seed."""
    parser.add_argument("--seed", type=number(0, below=2**31), default=0, help="the same seed gives the same numbers")


def shown(text, most=200):
    """`text`, safe to print or draw: one line, control characters escaped, cut after `most` characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: most + 1])
    return text if len(text) <= most else text[:most] + " ..."


def print_table(columns, rows):
    """Prints rows of text under their column names, with aligned columns."""
    head, *rows = [[shown(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
    for row in (head, ["-" * width for width in widths], *rows):
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def cure(error):
    """Advice for an error of the machine, or None if CURES has none."""
    return next((advice for words, advice in CURES.items() if words in str(error)), None)


def quit_on_ctrl_c():
    """Until `run_main`, makes Ctrl-C quit without a traceback. Call it before the slow import of PyTorch."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # background jobs ignore SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_main(main, on_stop="the same command resumes from the last checkpoint, if there is one"):
    """Runs `main()`. A UserError prints one line to stderr, exit status 2; Ctrl-C prints `on_stop`, exit status 130."""
    if hasattr(sys.stdout, "reconfigure"):  # escape what the terminal cannot print; flush every line, even to a pipe
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 2
    try:
        try:
            main()
        finally:
            print(end="", flush=True)  # may raise the errors below
        return
    except UserError as error:
        line = f"error: {str(error).rpartition('UserError: ')[2].strip()}"  # a worker's message starts with a traceback
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not cure(error):
            raise
        line = f"error: {cure(error) or MEMORY}"
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore a second Ctrl-C
        status, line = 130, f"stopped; {on_stop}"
    except OSError as error:
        if error.filename is None and not cure(error):  # stdout: the reader (head, less) quit, or the disk is full
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        line = f"error: {cure(error) or error}"
    line = shown(line, 10_000)
    print(line if len(line) < 1000 else f"{line[:600]} ... {line[-300:]}", file=sys.stderr)
    sys.exit(status)
