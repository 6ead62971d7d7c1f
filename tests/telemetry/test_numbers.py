"""Numbers as people read them."""

from plaudit.telemetry.numbers import duration, fixed, number, percent, signed, size


def test_numbers_and_changes() -> None:
    shown = [number(x) for x in (None, 0.0, 3.0, -0.51424, 1234.5, 123456.7, 1e-5, -2.5e7, 0.001)]
    assert [number(x) for x in (float("nan"), float("-inf"))] == ["nan", "-inf"]
    assert shown == ["–", "0", "3", "−0.5142", "1234", "123,457", "1·10⁻⁵", "−2.5·10⁷", "0.001"]
    assert [number(x, 3) for x in (0.98765, 12345.0)] == ["0.988", "12,345"]
    assert [signed(x) for x in (1.2345, -0.5, 0.0)] == ["+1.23", "−0.5", "0"]


def test_columns_have_the_same_decimals() -> None:
    assert [fixed(x) for x in (None, 2.0, -1.23456, 12345.6)] == ["–", "2.000", "−1.235", "12,346"]
    assert fixed(0.5, 1) == "0.5"


def test_shares_in_words() -> None:
    """Nearly all is not all, and a few are not none."""
    shown = [percent(x) for x in (0.8683, 0.5, 1.0, 0.0, 0.998, 0.002, -0.25)]
    assert shown == ["87 %", "50 %", "100 %", "0 %", "99.8 %", "0.2 %", "−25 %"]


def test_durations() -> None:
    told = [duration(s) for s in (None, 0.0, 0.4, 1.25, 9.0, 42.4, 59.4, 60, 187, 7500, 3 * 86400 + 4 * 3600)]
    assert told == [
        "", "0 s", "0.4 s", "1.2 s", "9 s", "42 s", "59 s", "1 min 00 s", "3 min 07 s", "2 h 05 min", "3 d 04 h",
    ]  # fmt: skip


def test_sizes() -> None:
    assert [size(x) for x in (None, 100, 2048, 1_400_000_000)] == ["", "100 B", "2 KiB", "1.3 GiB"]
