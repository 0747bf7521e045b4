"""Worker processes of this machine, at the other ends of pipes."""
