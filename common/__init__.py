"""What every script shares: the command line, a run and its folder, figures, the report."""
