"""Training: one file an algorithm; they never import each other. `optim`, `state` and `order` are what they share."""
