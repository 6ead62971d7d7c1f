"""A config of every shape that plaudit's configs have; the tests of the config read and write it."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    kind: Literal["shared"] = "shared"
    """A head on the policy's trunk."""
    head: Literal["linear", "mlp"] = "linear"
    """Shape of the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separate:
    kind: Literal["separate"] = "separate"
    """A trunk of its own."""
    width: int = 64
    """Width of its layers [units]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    path: str
    """File or hub name."""
    kind: str = "auto"
    """What the rows are."""
    columns: dict[str, str] = field(default_factory=dict)
    """The file's column -> ours."""
    weight: float = 1.0
    """Share in the mix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    peak: float = 1e-5
    """Peak learning rate
    (InstructGPT C.4)."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's moments."""
    undocumented: int = 0

    def __post_init__(self) -> None:
        if self.peak <= 0:
            raise ValueError(f"peak is {self.peak}; a learning rate is above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    seed: int
    """Seed of the run."""
    data: tuple[Data, ...]
    """Training rows."""
    optim: Optim = Optim()
    """The optimiser."""
    critic: Shared | Separate = Shared(head="mlp")
    """Who predicts the values."""
    stop: tuple[str, ...] = ()
    """Strings that end a response."""
    steps: int = 10
    """Optimiser steps."""
    max_len: int | None = None
    """Longest row [tokens]."""
    verbose: bool = False
    """Say more."""
    name: str = "run"
    """Its name."""
    device: Literal["auto", "cpu"] = "auto"
    """Where it runs."""
    mix: dict[str, float] = field(default_factory=dict)
    """Weights by name."""
    eval_on: Data | None = None
    """Held-out rows."""
