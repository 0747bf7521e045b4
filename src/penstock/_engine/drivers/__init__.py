"""The drivers: they run the rules, and do what the rules ask for. None of them decides anything."""
