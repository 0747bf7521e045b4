"""What runs the runs; nothing here is public."""
