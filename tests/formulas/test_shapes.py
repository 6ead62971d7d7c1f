import pytest

from plaudit.formulas.shapes import ceil_div, exact_div


def test_exact_div():
    assert exact_div(12, 4) == 3
    assert exact_div(0, 4) == 0
    assert exact_div(5, 1) == 5


def test_exact_div_says_what_does_not_divide():
    with pytest.raises(ValueError, match="13 is not a multiple of 4"):
        exact_div(13, 4)


def test_ceil_div():
    assert [ceil_div(a, 4) for a in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert ceil_div(5, 1) == 5


@pytest.mark.parametrize("function", [exact_div, ceil_div])
@pytest.mark.parametrize("divisor", [0, -2])
def test_the_divisor_is_positive(function, divisor):
    with pytest.raises(ValueError, match="positive"):
        function(4, divisor)
