"""`@kills` stands on a test and names the one-line mistakes that this test exists for; `make mutants` makes each."""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable)


def kills(file: str, *, old: str, new: str, why: str) -> Callable[[Test], Test]:
    """Changes nothing about the test: tools/mutants.py reads the decorators without importing them.

    file: under src/plaudit (`formulas/kl.py`), or else from the root of the checkout (`examples/cartpole.py`)
    old: stands exactly once in that file
    new: the mistake in its place
    why: the mistake in words, and who made it where that is known
    """
    return lambda test: test
