"""plaudit: the workshop for RLHF, from people's preferences to an aligned language model.

    import plaudit as pl

    policy = pl.Policy.load("runs/sft/model")
    judge = pl.RewardModel.load("runs/reward/model")
    run = pl.ppo(policy, prompts=["The cat"], rewards=[judge, my_function], kl_coef=0.05, iterations=50)

docs/python.md tells all of it. A name is imported when it is first used: `import plaudit` alone takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plaudit.api.models import Policy, RewardModel
    from plaudit.api.record import Results, RunRecord
    from plaudit.api.rows import load_data
    from plaudit.api.stages import collect, compare, evaluate_reward, ppo, reward, sft
    from plaudit.errors import UserError

__version__ = "0.1.0"

_WHERE = {
    **dict.fromkeys(("Policy", "RewardModel"), "api.models"),
    **dict.fromkeys(("Results", "RunRecord"), "api.record"),
    **dict.fromkeys(("collect", "compare", "evaluate_reward", "ppo", "reward", "sft"), "api.stages"),
    "UserError": "errors",
    "load_data": "api.rows",
}
__all__ = [
    "Policy", "Results", "RewardModel", "RunRecord", "UserError", "collect", "compare", "evaluate_reward", "load_data",
    "ppo", "reward", "sft",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'plaudit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"plaudit.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
