"""Reward models, one file per kind (N3)."""
