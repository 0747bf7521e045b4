"""Worker processes: the pool in the engine's process, and what its workers run."""
