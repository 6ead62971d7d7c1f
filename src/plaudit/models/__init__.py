"""Models: loading, the trunk call, heads, adapters, reward models, checkpoints."""
