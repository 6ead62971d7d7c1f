"""Finding a function by what the user wrote, and saying what was not found."""

import os
import sys

import pytest

from plaudit.errors import UserError
from plaudit.scoring.builtin import BUILTIN
from plaudit.scoring.functions import function_scorer, load_function
from plaudit.scoring.options import FunctionConfig

SOURCE = """
import helper_beside_the_rewards
LIMIT = 3
TIMES = []
TIMES.append(1)

class Judge:
    pass

def shorter(completions, **columns):
    return [helper_beside_the_rewards.SIGN * len(c) for c in completions]

def other(completions):
    return [float(len(TIMES)) for c in completions]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "rewards.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "helper_beside_the_rewards.py").write_text("SIGN = -1.0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("helper_beside_the_rewards", "rewards"):
        sys.modules.pop(name, None)


def test_a_builtin_by_its_name():
    for name, function in BUILTIN.items():
        assert load_function(name) is function


@pytest.mark.parametrize("spec", ["rewards.py:shorter", "./rewards.py:shorter", "rewards:shorter"])
def test_a_file_or_module_in_the_working_folder_with_what_lies_beside_it(folder, spec):
    before = list(sys.path)
    assert load_function(spec)(["abc"]) == [-3.0]
    assert sys.path == before


def test_an_absolute_path_with_colon_and_spaces(folder):
    strange = folder / "my rewards: new"
    strange.mkdir()
    (strange / "r.py").write_text("def f(completions): return [4.0]", encoding="utf-8")
    assert load_function(f"{strange / 'r.py'}:f")(["a"]) == [4.0]


def test_a_file_is_executed_once_for_all_its_functions_and_again_after_a_change(folder):
    assert load_function("rewards.py:shorter") is load_function("rewards.py:shorter")
    assert load_function("rewards.py:other")(["a"]) == [1.0]
    changed = folder / "rewards.py"
    stamp = changed.stat().st_mtime_ns
    changed.write_text("def shorter(completions): return [9.0]", encoding="utf-8")
    os.utime(changed, ns=(stamp + 10**9, stamp + 10**9))
    assert load_function("rewards.py:shorter")(["a"]) == [9.0]


def test_the_scorer_is_called_as_the_function(folder):
    assert function_scorer(FunctionConfig(function="rewards.py:shorter")).name == "shorter"
    with pytest.raises(UserError, match="no option 'limit'"):
        function_scorer(FunctionConfig(function="rewards.py:other", args={"limit": 1}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("edit_similarty", r"no built-in reward function 'edit_similarty'.*did you mean 'edit_similarity'"),
        ("zzz", r"there are edit_similarity, .*format"),
        ("reward.py:shorter", r"there is no file .*reward\.py; did you mean 'rewards\.py'"),
        ("nowhere/rewards.py:shorter", r"there is no file .*nowhere"),
        ("rewards.py:shortr", r"has no 'shortr'; did you mean 'shorter'"),
        ("rewards.py:zzz", r"has no 'zzz'; it has .*shorter, other"),
        ("rewards.py:LIMIT", r"'LIMIT' is of type int, not a function"),
        ("rewards.py:Judge", r"'Judge' is a class, not a function"),
        ("no_such_module_here:f", r"there is no module 'no_such_module_here'"),
        ("no_such_module_here.inner:f", r"there is no module 'no_such_module_here'"),
        (":f", r"write `module:function`"),
        ("rewards.py:", r"write `module:function`"),
    ],
)
def test_what_is_not_there_is_named_with_its_neighbours(folder, spec, message):
    with pytest.raises(UserError, match=message):
        load_function(spec)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(:", "SyntaxError"),
        ("import no_such_module_at_all", r"ModuleNotFoundError: No module named 'no_such_module_at_all'.*broken\.py:1"),
        ("x = 1\ny = 1 / 0", r"ZeroDivisionError.*broken\.py:2"),
        ("import sys\nsys.exit(0)", "SystemExit"),
    ],
)
@pytest.mark.parametrize("spec", ["broken.py:f", "broken:f"])
def test_a_file_that_does_not_load_is_named_with_its_line(folder, source, message, spec):
    (folder / "broken.py").write_text(source, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_function(spec)
    sys.modules.pop("broken", None)
