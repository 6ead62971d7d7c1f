"""What a user may say of the machine. No torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """The machine, as the user sees it."""

    device: str = "auto"
    """`auto` (cuda, else cpu) or a torch device. It must know float64, which sampling needs; mps doesn't. Under
    torchrun `cuda` is each rank's own GPU."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix work under autocast, parameters and losses in fp32."""
    threads: int = 0
    """CPU threads; 0 leaves torch's own choice, under torchrun one a rank. A resumed run is bit-equal only with the
    same number."""
