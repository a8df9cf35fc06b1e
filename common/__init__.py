"""Shared by all scripts: the command line, runs and their folders, figures, the report."""

import os
import sys

os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # no screen, no user settings
if not (sys.stderr and sys.stderr.isatty()):
    os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars in a log
