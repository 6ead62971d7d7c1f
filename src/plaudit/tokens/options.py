"""What becomes of rows that are too long. No torch."""

from typing import Literal

TooLong = Literal["error", "drop", "truncate"]
LongPrompts = Literal["error", "drop"]
"""A prompt that is to be answered is never cut."""
