"""What both decorators make of a function: options, verbs and futures."""
