"""Numbers that change with the step (no torch here)."""

import math
from typing import Literal


def learning_rate(
    step: int, total_steps: int, *, peak: float, warmup_steps: int, shape: Literal["linear", "cosine", "constant"]
) -> float:
    """The learning rate of optimiser step `step` = 0, 1, …, total_steps − 1   (N4.11).

        warm-up   peak · (step + 1) / warmup_steps                        step < warmup_steps = w
        linear    peak · (1 − p)               p = (step − w) / (total_steps − w)
        cosine    peak · ½ (1 + cos πp)
        constant  peak

    The first step never has rate 0. Linear and cosine are at the peak at step w, and reach 0 at `total_steps`, one
    after the last step taken; they stay 0. Source: lm-human-preferences and CleanRL's PPO (linear, no warm-up).
    Raises ValueError for an unknown shape, a negative step or warm-up, or a warm-up longer than `total_steps`.
    """
    if step < 0 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"learning_rate: step {step}, warmup_steps {warmup_steps}, total_steps {total_steps}")
    if shape not in ("linear", "cosine", "constant"):
        raise ValueError(f"learning_rate: unknown shape {shape!r}; linear, cosine or constant")
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if shape == "constant":
        return peak
    if step >= total_steps:
        return 0.0
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * (1.0 - progress) if shape == "linear" else peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def adapted_kl_coef(kl_coef: float, kl: float, *, target_kl: float, horizon: int, num_episodes: int) -> float:
    """β ← β · (1 + clip(KL/target − 1, ±0.2) · n/horizon), the adaptive β of the KL-shaped reward   (N4.6).

    `kl` and `target_kl` in nats per *response* (sum over its tokens, mean over responses); `num_episodes` n counts the
    responses since the last change, not tokens; `horizon` in episodes. KL above the target raises β. Source: Ziegler
    et al. 2019, §2.2, and lm-human-preferences. Raises ValueError where target or horizon is not positive.
    """
    if not target_kl > 0.0 or horizon <= 0:
        raise ValueError(f"adapted_kl_coef: target_kl {target_kl} and horizon {horizon} must be positive")
    error = min(max(kl / target_kl - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * num_episodes / horizon)


def adapted_trust_kl_coef(trust_kl_coef: float, kl: float, *, target_kl: float) -> float:
    """β ← 2β where KL > 1.5 target, β/2 where KL < target/1.5: the adaptive β of the trust region   (N4.5).

    `kl` is KL(π_old ‖ π_θ) after an iteration's updates, `target_kl` what it should be, nats per *token* both. Source:
    Schulman et al. 2017, §4. Not `adapted_kl_coef`, whose β is that of the reward. Raises ValueError where the target
    is not positive.
    """
    if not target_kl > 0.0:
        raise ValueError(f"adapted_trust_kl_coef: target_kl {target_kl} must be positive")
    if kl > 1.5 * target_kl:
        return 2.0 * trust_kl_coef
    return trust_kl_coef / 2.0 if kl < target_kl / 1.5 else trust_kl_coef
