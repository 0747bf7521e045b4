"""What is logged of runs: a run does not fail because of what is said of it."""
