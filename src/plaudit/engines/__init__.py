"""Engines: who writes the rollouts. Token ids in, token ids out; `build` is where one is chosen."""
