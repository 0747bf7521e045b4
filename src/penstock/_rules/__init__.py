"""What happens to a run: the rules decide, and know no clock, no thread and no loop."""
