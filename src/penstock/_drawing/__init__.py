"""Graphs are laid out and drawn by pure functions."""
