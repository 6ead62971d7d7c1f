"""Runs: configuration, the run folder, everything written into it. Standard library, yaml, pydantic, rich only."""
