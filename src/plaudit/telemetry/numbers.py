"""Numbers as people read them: in the report, in the terminal, beside a progress bar. One way for all."""

from __future__ import annotations

import math

NONE = "–"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 4) -> str:
    """Significant digits with a true minus; a power of ten from a million on and below a thousandth; – for None."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return str(value)
    if 1e-3 <= abs(value) < 1e6:
        return (f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}").replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{float(mantissa):g}".replace("-", "−") + "·10" + str(int(exponent)).translate(_SUPERSCRIPTS)


def counted(count: int, what: str) -> str:
    """1 token, 2 tokens, 1,200 tokens."""
    return f"{count:,} {what}" + "s" * (count != 1)


def fixed(value: float | None, decimals: int = 3) -> str:
    """The same number of decimals in every row, for columns that are read downwards; – for None."""
    if value is None:
        return NONE
    return f"{value:.{decimals}f}".replace("-", "−") if abs(value) < 1000 else number(value, decimals + 1)


def signed(value: float) -> str:
    """A change: +0.53, −1.2, 0."""
    return ("+" if value > 0 else "") + number(value, 3)


def percent(share: float) -> str:
    """A share in words: 0.8683 -> 87 %; one decimal where a whole number would say "none" or "all" of what isn't."""
    whole = round(100 * share)
    rough = whole in (0, 100) and share not in (0.0, 1.0)
    return (f"{100 * share:.1f}" if rough else str(whole)).replace("-", "−") + " %"


def duration(seconds: float | None) -> str:
    """`1.2 s`, `42 s`, `3 min 07 s`, `2 h 05 min`, `3 d 04 h`; "" for None."""
    if seconds is None:
        return ""
    if 0 < seconds < 9.95:
        return f"{number(seconds, 2)} s"
    whole = max(0, round(seconds))
    for size, below, name, smaller in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // below:02d} {smaller}"
    return f"{whole} s"


def size(count: float | None) -> str:
    """Bytes in binary units; "" for None."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
