"""Reward models of every kind (N3), trained by one loop; a file for each family."""
