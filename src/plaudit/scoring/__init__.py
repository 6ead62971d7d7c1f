"""Who gives scores [B]: reward functions (N3.14), learned reward models, mixes of both."""
