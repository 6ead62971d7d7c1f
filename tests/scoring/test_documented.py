"""The page about reward functions knows each of them."""

from plaudit.scoring.builtin import BUILTIN
from tests.architecture.repo import ROOT


def test_every_builtin_stands_in_the_documentation_and_explains_itself():
    page = (ROOT / "docs" / "reward-functions.md").read_text(encoding="utf-8")
    for name, function in BUILTIN.items():
        assert page.count(f"\n| `{name}` |") == 1, name
        assert function.__doc__, name
