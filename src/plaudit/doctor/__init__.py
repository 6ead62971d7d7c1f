"""Mistakes before a run: checks of a config or a pipeline, from reading its files to two steps of its training."""
