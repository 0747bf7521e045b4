"""Log records of runs: a run never fails because of what is logged about it."""
