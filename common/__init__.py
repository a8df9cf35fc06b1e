"""What every script shares: the command line, a run and its folder, figures, the report."""

import os

os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)  # no screen is needed; the user's settings change no plot
