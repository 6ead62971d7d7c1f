"""The public names: there, listed, documented, and free until they are used."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import plaudit as pl
from tests.kills import kills


def test_all_is_what_is_exported() -> None:
    assert pl.__all__ == sorted(pl.__all__) == sorted(pl._WHERE)
    assert set(pl.__all__) <= set(dir(pl))
    for name in pl.__all__:
        value = getattr(pl, name)
        assert value.__name__ == name
        assert value.__module__ == f"plaudit.{pl._WHERE[name]}"
    with pytest.raises(AttributeError, match="no attribute 'dpo'"):
        _ = pl.dpo


def public() -> list[tuple[str, object]]:
    """Everything that a user calls: functions, classes, their methods."""
    found: list[tuple[str, object]] = []
    for name in pl.__all__:
        value = getattr(pl, name)
        found.append((name, value))
        if inspect.isclass(value) and not issubclass(value, Exception):
            found += [(f"{name}.{key}", one) for key, one in vars(value).items() if not key.startswith("_")]
    return found


def test_whatever_can_be_called_says_what_it_does_with_an_example() -> None:
    without = [name for name, value in public() if not inspect.getdoc(value)]
    assert without == []
    calls = [(name, value) for name, value in public() if callable(value) or isinstance(value, classmethod)]
    simple = {"UserError", "Policy.of", "Policy.copy"}
    lacking = [
        name
        for name, value in calls
        if name not in simple and not any(line.startswith("    ") for line in (value.__doc__ or "").splitlines())
    ]
    assert lacking == []


@kills(
    "__init__.py",
    old="    from plaudit.errors import UserError\n",
    new="    pass\nfrom plaudit.api.stages import ppo\n",
    why="`import plaudit` loads torch, so that whoever wants the version waits for seconds",
)
def test_importing_takes_nothing_with_it() -> None:
    code = "import sys, plaudit; print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'yaml', 'rich'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_is_typed() -> None:
    assert (Path(pl.__file__).parent / "py.typed").is_file()
