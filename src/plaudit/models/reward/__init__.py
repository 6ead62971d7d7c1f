"""Reward models, one file a kind (N3)."""
