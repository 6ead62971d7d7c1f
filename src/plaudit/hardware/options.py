"""What a user may say of the machine. No torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """The machine, as the user sees it."""

    device: str = "auto"
    """`auto` (cuda, else cpu) or a torch device that knows float64 (mps doesn't); `cuda`: each rank's own GPU."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """bf16: matrix work under autocast, the rest in fp32; auto: bf16 where it is measured to be faster."""
    threads: int | None = 0
    """CPU threads; 0 leaves torch's own choice, under torchrun one a rank; null: chosen by a short measurement, unless
    OMP_NUM_THREADS says. A resumed run is bit-equal only with the same number, and keeps a measured one."""
