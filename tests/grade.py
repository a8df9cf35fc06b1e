"""Checks a student's layers: `python -m tests.grade DIR`, or `make grade SUBMISSION=DIR`.

A check compares the values or the gradients of one handout function with ours. If the student's forward differs from
ours, the check compares the gradients with numeric gradients of that forward, so that a mistake costs points only once.
Each check runs in its own process (tests/grade_worker.py) with a time limit.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from common.cli import Parser, UserError, number, run_main, shown
from tests.grade_worker import CHECKS, OURS, REPO

ASKED = {"3 RNN": 4, "4 LSTM": 4, "5 Image captioning": 10}  # one point per check, in the order of CHECKS
HELPERS = {"Helpers and BLEU (no points)": 7}


def ask(folder, check, timeout):
    """The worker's reply to a check: {"missing": True if the function does not exist, "failure": text or None}."""
    argv = [sys.executable, "-m", "tests.grade_worker", str(Path(folder).resolve()), check]
    settings = {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(REPO)}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = subprocess.run(argv, cwd=scratch, env=os.environ | settings, stdout=subprocess.PIPE, timeout=timeout)
            replies, failure = done.stdout, f"Python exited with status {done.returncode}"
        except subprocess.TimeoutExpired as late:
            replies, failure = late.stdout, f"took more than {timeout:g} s (infinite loop?)"
    return json.loads(replies.splitlines()[-1]) if replies else {"missing": False, "failure": failure}


def grade(folder, timeout):
    """Prints a line for each check, then the points."""
    if not (folder / "layers.py").is_file():
        print("layers.py not found; the other files use ours")
    checks, lines = iter(CHECKS), []
    for section, count in (ASKED | HELPERS).items():
        print(section)
        points = 0
        for check in itertools.islice(checks, count):
            reply = ask(folder, check, timeout)
            optional = reply["missing"] and section in HELPERS
            points += reply["failure"] is None
            print(f"  {check:34}{'missing' if optional else 'FAILS' if reply['failure'] else 'ok'}", flush=True)
            if reply["failure"] and not optional:
                print(textwrap.indent(textwrap.fill(shown(reply["failure"], 600), 90), " " * 6))
        lines += [(section, points, count)] if section in ASKED else []
    for section, points, count in (*lines, ("total", sum(line[1] for line in lines), sum(ASKED.values()))):
        print(f"{section:22}{points:3} of {count:2} points")


def submission(folder):
    """The folder as a Path. Raises UserError if it is not a folder or contains none of the files to grade."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: {'not a folder; unpack it first' if folder.exists() else 'no such folder'}")
    if not any((folder / f"{module}.py").is_file() for module in OURS):
        below = sorted(path.parent for path in folder.glob("*/rnn*.py"))
        raise UserError(f"{folder}: has none of {', '.join(OURS)} (.py){f'; try {below[0]}' if below else ''}")
    return folder.resolve()


def main(argv=None):
    """Checks a student's rnn_layers.py, layers.py, rnn.py and bleu_utils.py, function by function.

    The command does not change DIR. The exit status is 0 for any number of points, and 2 if there is nothing to grade.
    """
    parser = Parser(prog="python -m tests.grade", description=main.__doc__)
    parser.add_argument("submission", metavar="DIR", help="the student's folder")
    parser.add_argument("--timeout", type=number(0.1, float), default=20, metavar="S", help="seconds per check")
    args = parser.parse_args(argv)
    folder = submission(args.submission)
    print(f"grading {shown(folder, 500)}")
    grade(folder, args.timeout)


if __name__ == "__main__":
    run_main(main, on_stop="nothing was written")
