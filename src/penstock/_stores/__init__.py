"""Where runs are kept: a store takes what happens in its order, and holds a prefix of it."""
