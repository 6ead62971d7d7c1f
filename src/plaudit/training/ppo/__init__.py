"""PPO on language (N4): `loop` is the algorithm, `config` its options, one file for each of its parts."""

from plaudit.training.ppo.config import AdaptiveKL, Brakes, Clip, FixedKL, PPOConfig, Ptx, Whitening
from plaudit.training.ppo.loop import ppo

__all__ = ["AdaptiveKL", "Brakes", "Clip", "FixedKL", "PPOConfig", "Ptx", "Whitening", "ppo"]
