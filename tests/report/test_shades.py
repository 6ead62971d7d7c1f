"""Colours by hand numbers: which level, which side, and that a reader with any eyes can tell them apart."""

import itertools

import pytest

from plaudit.report import shades
from plaudit.report.rollouts import Answer, KeptRollout, Tokens


def rollout(**columns: tuple[float | None, ...]) -> KeptRollout:
    n = len(next(iter(columns.values())))
    tokens = Tokens(texts=("x",) * n, ids=(), columns=columns)
    return KeptRollout(prompt="", prompt_id="", answer=Answer(text=""), tokens=tokens)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (0.12, 0), (-0.12, 0), (0.13, 1), (-0.13, -1), (0.5, 2), (-0.5, -2), (1.0, 4), (-9.0, -4), (None, 0)],
)
def test_levels_have_the_sign_of_the_number(value, expected):
    assert shades.level(value, 1.0, "advantage") == expected
    assert shades.level(value if value is None else value * 30, 30.0, "kl") == expected


def test_log_probabilities_are_coloured_by_size():
    assert [shades.level(x, 4.0, "logprob") for x in (0.0, -1.0, -4.0, -40.0)] == [0, 1, 4, 4]
    assert shades.shade(4, "logprob") != shades.shade(4, "advantage")


def test_no_scale_no_colour():
    assert shades.level(3.0, 0.0, "reward") == 0
    assert shades.shade(0, "reward") is None
    assert shades.scale_end([], "reward") == 0.0


def test_the_scale_leaves_the_outlier_outside():
    """Of 20 numbers 95 % are 19: the largest doesn't count. Zeros and absent numbers count nowhere."""
    values = (*(float(i) for i in range(-19, 0)), 1000.0)
    assert shades.scale_end([rollout(kl=(*values, None, 0.0, 0.0))], "kl") == 19.0
    assert shades.scale_end([rollout(kl=(0.5,)), rollout(kl=(-2.0,)), rollout(value=(9.0,))], "kl") == 2.0


def test_the_legend_says_what_the_levels_say():
    for column in shades.COLUMNS:
        steps = shades.legend(column, 2.0)
        assert [step for step, _ in steps] == [shades.level(value, 2.0, column) for _, value in steps]
    assert shades.legend("advantage", 2.0)[0] == (-4, -2.0)
    assert shades.legend("logprob", 2.0)[-1] == (4, -2.0)
    assert shades.legend("entropy", 2.0)[-1] == (4, 2.0)


def test_columns_come_in_the_tables_order():
    assert shades.columns_of([rollout(novelty=(1.0,), kl=(1.0,), logprob=(1.0,))]) == ["logprob", "kl", "novelty"]
    assert shades.words("novelty") == ("novelty", "")


def luminance(colour: str) -> float:
    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("side", [shades.ABOVE, shades.BELOW, shades.SIZE])
def test_text_is_read_on_every_shade_and_shades_darken(side):
    for step in side:
        assert contrast("#ffffff" if step in shades.LIGHT_TEXT else "#000000", step) >= 4.5  # WCAG AA
    for light, dark in itertools.pairwise(side):
        assert luminance(light) > luminance(dark)


def test_the_sides_differ_for_eyes_without_red_or_green():
    """Blue against yellow is what such eyes keep: above is bluer than red, below the reverse, on every shade."""
    for above, below in zip(shades.ABOVE, shades.BELOW, strict=True):
        assert int(above[5:], 16) > int(above[1:3], 16)
        assert int(below[5:], 16) < int(below[1:3], 16)
