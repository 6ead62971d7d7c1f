"""Learning tests make the same calls hundreds of times; the rooms' own tests check what jaxtyping checks in each."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def no_checks_of_shapes() -> Iterator[None]:
    """A third of the time that these tests would take."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
