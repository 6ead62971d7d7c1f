"""Rollouts: the policy answers prompts."""
