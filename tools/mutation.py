"""What a mutation is: one line of the code, the mistake in its place, and the test that must notice it."""

from dataclasses import dataclass

FORMULAS = "src/plaudit/formulas/"
TESTS = "tests/formulas/"


@dataclass(frozen=True)
class Mutation:
    file: str
    old: str
    """Stands exactly once in the file."""
    new: str
    test: str
    """The test file (or `file::test`) that must fail."""
    why: str
    """The mistake in words, and who made it where that is known."""


def formula(module: str, old: str, new: str, why: str, test: str = "") -> Mutation:
    """The test is the module's own where none is named."""
    return Mutation(f"{FORMULAS}{module}.py", old, new, f"{TESTS}test_{test or module}.py", why)


def trained(module: str, old: str, new: str, test: str, why: str) -> Mutation:
    return Mutation(f"src/plaudit/{module}.py", old, new, f"tests/{test}", why)


def ppo(part: str, old: str, new: str, test: str, why: str) -> Mutation:
    """`part` names the file of training/ppo, `test` the place under tests/training."""
    return trained(f"training/policy/{part}", old, new, f"training/{test}", why)
