"""What every script shares: the command line, a run and its folder, figures, the report."""

import os
import sys

os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # no screen is needed; the user's settings change no plot
if not (sys.stderr and sys.stderr.isatty()):
    os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars in a log
