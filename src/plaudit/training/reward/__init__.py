"""Reward models (N3): `loop` trains any of them, one file beside it says what a kind learns from and by which loss."""

from plaudit.training.reward.config import RewardConfig
from plaudit.training.reward.loop import reward

__all__ = ["RewardConfig", "reward"]
