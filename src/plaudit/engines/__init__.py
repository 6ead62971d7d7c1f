"""Engines: the only room that knows devices. Token ids in, token ids out."""
