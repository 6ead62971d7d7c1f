"""What becomes of rows that are too long. No torch."""

from typing import Literal

TooLong = Literal["error", "drop", "truncate"]
