"""Group commit: one queue, one writer, one transaction for many runs."""
