"""One engine a process: made by the first run, thrown away by a fork, closed at the end."""
