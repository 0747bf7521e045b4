"""What both decorators make of a function: its options, its verbs, its futures."""
