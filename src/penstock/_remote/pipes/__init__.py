"""Worker processes of this machine: one job at a time in each, and each can be killed."""
