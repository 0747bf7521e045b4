"""What a worker process runs; it is imported by its name, and by nothing else."""
