"""Reward functions in a process of their own: what hangs, dies, prints or scribbles there harms nobody (13–16, 33, 40).

The judges stand in one file, so that one worker serves most tests; those that end it come back by themselves.
"""

import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.records.text import Form, Group, Message, Prompt
from plaudit.scoring import isolate
from plaudit.scoring.build import function_files
from plaudit.scoring.calls import takes
from plaudit.scoring.combine import part_metrics, tell_step
from plaudit.scoring.functions import FunctionScorer, function_scorer
from plaudit.scoring.isolate import CallFailed, isolated
from plaudit.scoring.options import FunctionConfig
from tests.kills import kills

SECONDS = 0.4
FILE = (
    f"SECONDS = {SECONDS}"
    + """
import asyncio, math, os, re, signal, subprocess, sys, time

def length(completions, **columns):
    return [len(c) for c in completions]

def pid(completions):
    return [os.getpid()] * len(completions)

def hangs(completions):
    while "bb" in completions:
        pass
    return [1.0] * len(completions)

def hangs_in_c(completions):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    if "bb" in completions:
        re.match(r"(a+)+b", "a" * 60)
    return [1.0] * len(completions)

async def hangs_async(completions):
    await asyncio.sleep(60.0 if "bb" in completions else 0.0)
    return [1.0] * len(completions)

def exits(completions):
    if "bb" in completions:
        print("leaving")
        os._exit(0)
    return [1.0] * len(completions)

def crashes(completions):
    if "bb" in completions:
        import ctypes
        ctypes.string_at(0)
    return [1.0] * len(completions)

def raises(completions):
    if "bb" in completions:
        raise ValueError("not that one")
    return [1.0] * len(completions)

def leaves(completions):
    if "bb" in completions:
        sys.exit("enough")
    return [1.0] * len(completions)

def nan(completions):
    return [math.nan if c == "bb" else 1.0 for c in completions]

def slow_together(completions):
    time.sleep(0.5 * len(completions) * SECONDS)
    return [1.0] * len(completions)

def returns(completions, what):
    import numpy as np
    return {
        "short": [1.0], "matrix": np.ones((3, 1)), "text": "abc", "number": 2.0, "word": [1.0, "2.0", 3.0],
        "array": np.array([1.0, 2.5, 3.0], dtype=np.float32), "scalars": [np.int64(1), np.float32(2.5), np.bool_(True)],
        "huge": [1.0, 10**5000, 3.0], "none": [1.0, None, 3.0], "generator": (c for c in completions),
    }[what]

def seen(prompts, completions, completion_ids, given=None, option="x"):
    assert (prompts, completions, completion_ids, given, option) == (
        ["p", "p"], ["a", "\\u597d\\ud800"], [[1], [2, 3]], [{"k": [1, 2.5, None, True]}] * 2, ["o"])
    prompts.clear(); completions.clear(); given[0]["k"].clear(); option.clear()
    return [1.0, 2.0]

def chats(prompts, completions):
    assert prompts == [[{"role": "user", "content": "hi"}]]
    return [float(completions == [[{"role": "assistant", "content": "ho"}]])]

def talks(completions):
    print('{"id": 1, "result": [9, 9, 9]}', flush=True)
    os.write(1, b"raw\\n" * 50000)
    subprocess.run([sys.executable, "-c", "print('child', flush=True)"], check=True)
    assert sys.stdin.read() == ""
    return [1.0, 2.0, 3.0]

def has_a_child(completions, path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(path, "w").write(str(child.pid))
    time.sleep(60)

def hungry(completions):
    import mmap
    mmap.mmap(-1, 2**30).close()
    return [1.0] * len(completions)

def dies_later(completions):
    import threading
    threading.Timer(0.05, os._exit, [7]).start()
    return [1.0] * len(completions)
"""
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("isolated") / "judges.py"
    path.write_text(FILE, encoding="utf-8")
    return path


@pytest.fixture(scope="module", autouse=True)
def no_worker_stays():
    yield
    isolate._worker.cache_clear()


def scorer(file: Path, function: str, **options) -> FunctionScorer:
    return function_scorer(FunctionConfig(function=f"{file}:{function}", **{"timeout": SECONDS, **options}))


def group(*responses: str, **options) -> Group:
    return Group(prompt=Prompt.of_text("p"), responses=responses, **options)


THREE = [group("a", "bb", "ccc")]


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie that nobody has buried yet counts)."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (OSError, IndexError):
            return True
        time.sleep(0.05)
    return False


# ---------------------------------------------------------------------------------------------------- who is isolated


def test_a_users_function_has_a_process_of_its_own_unless_told_otherwise(file):
    assert scorer(file, "pid").score([group("a")]).scores.item() != os.getpid()
    shared = function_scorer(FunctionConfig(function=f"{file}:pid", isolate=False))
    assert shared.score([group("a")]).scores.item() == os.getpid()


def test_who_is_isolated_by_default():
    assert FunctionConfig(function="rules.py:f").is_isolated
    assert FunctionConfig(function="some.module:f").is_isolated
    assert FunctionConfig(function="regex").is_isolated  # a pattern may take for ever
    assert not FunctionConfig(function="edit_similarity").is_isolated
    assert not FunctionConfig(function="plaudit.data.tinyworld:true_reward").is_isolated
    assert FunctionConfig(function="edit_similarity", isolate=True).is_isolated


def test_a_builtin_gives_the_same_scores_in_its_process():
    rows = [group("kitten", "sitting", columns={"solution": "sitting"})]
    values = [
        function_scorer(FunctionConfig(function="edit_similarity", isolate=isolate)).score(rows).scores.tolist()
        for isolate in (True, False)
    ]
    assert values[0] == values[1] == pytest.approx([4 / 7, 1.0])


def test_functions_of_one_file_share_a_process_and_keep_it_from_call_to_call(file):
    one, two = scorer(file, "pid"), scorer(file, "pid", name="again")
    assert one.score([group("a")]).scores.item() == one.score([group("a")]).scores.item()
    assert one.score([group("a")]).scores.item() == two.score([group("a")]).scores.item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"isolate": False, "timeout": 3.0}, "`timeout` goes with `isolate: true`"),
        ({"isolate": False, "memory_gb": 3.0}, "`memory_gb` goes with `isolate: true`"),
        ({"timeout": 0.0}, "`timeout` must be a positive number"),
        ({"timeout": float("inf")}, "`timeout` must be a positive number"),
        ({"memory_gb": -1.0}, "`memory_gb` must be a positive number"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        FunctionConfig(function="rules.py:f", **options)


# ---------------------------------------------------------------------------------------------------- what crosses


def test_arguments_arrive_whole_and_scribbling_on_them_harms_nobody(file):
    args, column = {"option": ["o"]}, {"k": [1, 2.5, None, True]}
    rows = [
        group("a", "\u597d\ud800", response_ids=((1,), (2, 3)), columns={"given": column, "unused": date(2020, 1, 1)})
    ]
    judge = scorer(file, "seen", args=args)
    for _ in range(2):
        assert judge.score(rows).scores.tolist() == [1.0, 2.0]
    assert args == {"option": ["o"]}
    assert column == {"k": [1, 2.5, None, True]}


def test_a_chat_crosses_as_messages(file):
    chat = Group(prompt=Prompt(form=Form.CHAT, turns=(Message(role="user", content="hi"),)), responses=("ho",))
    assert scorer(file, "chats").score([chat]).scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (date(2020, 1, 1), "a mapping|date"),
        ({1: "a"}, "a mapping with the key 1"),
        ([{"deep": b"x"}], "bytes"),
        ({"a", "b"}, "set"),
    ],
)
@pytest.mark.parametrize("on_error", ["error", "abstain"])
def test_a_value_that_cannot_cross_is_named_with_its_column(file, value, words, on_error):
    with pytest.raises(UserError, match=rf"judges\.py:length'.*'when' holds .*({words}).*isolate: false"):
        scorer(file, "length", on_error=on_error).score([group("a", columns={"when": value})])


def test_the_signature_is_known_on_this_side(file):
    function = isolated(f"{file}:seen", timeout=1.0)
    known = takes(function)
    assert [*known.parameters] == ["prompts", "completions", "completion_ids", "given", "option"]
    assert [*known.parameters.values()] == [False, False, False, True, True]
    assert not known.any_name
    assert takes(isolated(f"{file}:length", timeout=1.0)).any_name
    assert takes(isolated("exact_match", timeout=1.0)).columns == ("solution",)
    assert scorer(file, "returns").required_columns == ("what",)
    with pytest.raises(UserError, match=r"no option 'optoin'; did you mean 'option'\?"):
        scorer(file, "seen", args={"optoin": 1})


@pytest.mark.parametrize(
    ("what", "values"), [("array", [1, 2.5, 3]), ("scalars", [1, 2.5, 1]), ("none", [1.0, 0.0, 3.0])]
)
def test_flat_lists_of_numbers_come_back(file, what, values):
    scores = scorer(file, "returns", args={"what": what}).score(THREE)
    assert scores.scores.tolist() == values
    assert scores.valid.tolist() == [True, what != "none", True]


@pytest.mark.parametrize("what", ["short", "matrix", "text", "number", "word", "generator", "huge"])
@pytest.mark.parametrize("on_error", ["error", "abstain"])
def test_anything_else_is_refused_in_the_same_words_as_without_isolation(file, what, on_error):
    messages = []
    for inside in (True, False):
        options = {} if inside else {"timeout": 120.0}
        judge = scorer(file, "returns", args={"what": what}, isolate=inside, on_error=on_error, **options)
        try:
            messages.append(str(judge.score(THREE).valid.tolist()))
            assert what == "huge", "only a number that is too large falls under the policy"
            assert on_error == "abstain"
        except UserError as error:
            messages.append(str(error).split(" at 0x")[0])
    assert messages[0] == messages[1]


@kills("scoring/worker.py", old="    os.dup2(2, 1)\n", new="", why="what the function prints is read as scores")
def test_what_it_prints_cannot_disturb_the_protocol(file):
    assert scorer(file, "talks", timeout=20.0).score(THREE).scores.tolist() == [1.0, 2.0, 3.0]


# ---------------------------------------------------------------------------------------------------- failures

FAILURES = [
    ("hangs", "timed_out", r"gave no answer within 0\.4 s and was killed \(in .*judges\.py:\d+ in hangs\)"),
    ("hangs_in_c", "timed_out", r"gave no answer within 0\.4 s and was killed \(in .*judges\.py:\d+ in hangs_in_c\)"),
    ("hangs_async", "timed_out", r"gave no answer within 0\.4 s and was killed"),
    ("exits", "died", r"ended its process with exit code 0; it printed last: 'leaving'"),
    ("crashes", "died", r"ended its process by SIGSEGV \(in .*judges\.py:\d+ in crashes\)"),
    ("raises", "raised", r"raised ValueError: not that one \(.*judges\.py:\d+ in raises\)"),
    ("leaves", "raised", r"raised SystemExit: enough"),
    ("nan", "not_finite", r"returned nan, which is no finite"),
]


@kills(
    "scoring/isolate.py",
    old="            process.end()\n            raise _failure",
    new="            raise _failure",
    why="the answer that came too late is taken for the next one",
)
@pytest.mark.parametrize(("name", "kind", "words"), FAILURES)
def test_the_guilty_row_alone_is_left_out_counted_and_named(file, name, kind, words, capsys):
    judge = scorer(file, name, on_error="abstain")
    scores = judge.score(THREE)
    assert scores.scores.tolist() == [1.0, 0.0, 1.0]
    assert scores.valid.tolist() == [True, False, True]
    assert judge.tally.counts == {"rows": 3, "abstained": 0, kind: 1}
    (example,) = judge.tally.examples
    message = rf"reward function '{name}': row 1 \(prompt [0-9a-f]{{16}} 'p', response 'bb'\): {words}"
    assert re.match(message, example)
    assert example in capsys.readouterr().err
    assert judge.score([group("ok")]).scores.tolist() == [1.0]


@pytest.mark.parametrize(("name", "kind", "words"), [FAILURES[0], FAILURES[3], FAILURES[5]])
def test_by_default_the_run_stops_with_the_row(file, name, kind, words):
    with pytest.raises(UserError, match=rf"'{name}': row 1 .*{words}") as info:
        scorer(file, name).score(THREE)
    assert isinstance(info.value.__cause__, CallFailed)
    assert info.value.__cause__.kind == kind


def test_or_the_row_gets_the_fixed_value(file):
    judge = scorer(file, "exits", on_error="value", error_value=-2.0)
    assert judge.score(THREE).scores.tolist() == [1.0, -2.0, 1.0]


@pytest.mark.parametrize("on_error", ["error", "abstain"])
def test_a_batch_that_is_only_slow_together_says_so_and_goes_on(file, on_error, capsys):
    judge = scorer(file, "slow_together", on_error=on_error)
    assert judge.score([group(*"abcde")]).scores.tolist() == [1.0] * 5
    assert "5 rows together took longer than its `timeout`" in capsys.readouterr().err


def test_what_loading_takes_after_a_restart_is_not_the_calls_time(tmp_path):
    source = f"import os, time\ntime.sleep({SECONDS + 0.4})\n"
    source += "def f(completions):\n    return [1.0 if c != 'bb' else os._exit(1) for c in completions]\n"
    (tmp_path / "slow.py").write_text(source, encoding="utf-8")
    judge = scorer(tmp_path / "slow.py", "f", on_error="abstain")
    assert judge.score([group("a", "bb")]).valid.tolist() == [True, False]
    assert judge.tally.counts["died"] == 1


@kills(
    "scoring/isolate.py",
    old="os.killpg(self.popen.pid, signal.SIGKILL)",
    new="os.kill(self.popen.pid, signal.SIGTERM)",
    why="a hang in C ignores the polite signal, and the function's children live on",
)
def test_the_functions_own_children_are_killed_with_it(file, tmp_path):
    path = tmp_path / "child"
    with pytest.raises(UserError, match="gave no answer"):
        scorer(file, "has_a_child", args={"path": str(path)}).score([group("a")])
    assert gone(int(path.read_text()))


def test_a_worker_that_dies_between_calls_comes_back(file):
    judge, other = scorer(file, "dies_later"), scorer(file, "length")
    assert judge.score(THREE).scores.tolist() == [1.0, 1.0, 1.0]
    time.sleep(0.3)
    assert other.score(THREE).scores.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_memory_can_be_limited(file):
    judge = scorer(file, "hungry", memory_gb=0.5, timeout=10.0, on_error="abstain")
    assert judge.score([group("a")]).valid.tolist() == [False]
    assert "Cannot allocate memory" in judge.tally.examples[0]
    assert scorer(file, "hungry", timeout=10.0).score([group("a")]).scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import os\nos._exit(3)\ndef f(completions): return []",
            "while loading, it ended its process with exit code 3",
        ),
        ("import time\ntime.sleep(60)\ndef f(completions): return []", "while loading, it gave no answer within 0.4 s"),
        ("1 / 0", r"ZeroDivisionError.*broken\.py:1"),
        ("print('about to')\nraise SystemExit(2)", "SystemExit: 2.*it printed last: 'about to'"),
    ],
)
def test_a_file_that_ends_or_hangs_while_it_loads_is_named(tmp_path, monkeypatch, source, message):
    monkeypatch.setattr(isolate, "LOADING_SECONDS", SECONDS if "sleep" in source else 60.0)
    (tmp_path / "broken.py").write_text(source, encoding="utf-8")
    with pytest.raises(UserError, match=rf"(?s)broken\.py:f'.*{message}"):
        scorer(tmp_path / "broken.py", "f")


# ---------------------------------------------------------------------------------------------------- no orphans


def test_a_worker_ends_when_nobody_holds_its_function(tmp_path):
    path = tmp_path / "r.py"
    path.write_text(FILE, encoding="utf-8")
    judge = scorer(path, "pid")
    pid = round(judge.function(completions=[""])[0])
    os.kill(pid, 0)  # it lives
    del judge
    isolate._worker.cache_clear()
    assert gone(pid)


@kills(
    "scoring/worker.py",
    old="ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)",
    new="pass",
    why="a hanging worker outlives the run",
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread looks, which a hang in C holds up")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphan_outlives_the_run_even_while_it_hangs_in_c(file, tmp_path, signum):
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, a process ignores it
from plaudit.scoring.isolate import isolated
pid = isolated({f"{file}:pid"!r}, timeout=50.0)(completions=["a"])[0]
print(int(pid), flush=True)
isolated({f"{file}:hangs_in_c"!r}, timeout=50.0)(completions=["bb"])
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with run:
        pid = int(run.stdout.readline())
        time.sleep(0.2)
        assert not gone_now(pid)
        run.send_signal(signum)
        run.wait(timeout=10)
    ended = gone(pid)
    if not ended:
        os.kill(pid, signal.SIGKILL)  # the test leaves none behind either
    assert ended


def gone_now(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_the_worker_loads_no_torch():
    code = "import sys, plaudit.scoring.worker; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_a_function_logs_and_asks_crosses_too(tmp_path):
    path = tmp_path / "logs.py"
    path.write_text(
        "def logs(completions, trainer_state, log_metric=None):\n"
        "    log_metric('length', len(completions))\n"
        "    return [float(trainer_state.global_step)] * len(completions)\n",
        encoding="utf-8",
    )
    judge = scorer(path, "logs")
    tell_step(judge, 5, 9)
    assert judge.score([Group(prompt=Prompt.of_text("p"), responses=("a", "b"))]).scores.tolist() == [5.0, 5.0]
    assert part_metrics(judge)["part_logged/logs/length_over_responses"] == 2.0


def test_the_first_lines_that_it_prints_are_shown(tmp_path, capsys):
    path = tmp_path / "loud.py"
    path.write_text(
        "def loud(completions):\n    [print('line', i) for i in range(30)]\n    return [1.0]\n", encoding="utf-8"
    )
    judge = scorer(path, "loud")
    judge.score([Group(prompt=Prompt.of_text("p"), responses=("a",))])
    judge.function.worker.close()  # reads to the end
    shown = [line for line in capsys.readouterr().err.splitlines() if "prints" in line]
    assert shown[0] == "loud.py prints: line 0"
    assert shown[-1] == "loud.py prints: line 9 (what follows is shown only where it fails)"
    assert len(shown) == isolate.SHOWN_LINES


def test_printed_lines_are_whole_wherever_the_pipe_cuts_them(capsys):
    show = isolate.FirstLines("loud.py")
    for chunk in (b"li", b"ne \xc3", b"\xa9\nsec", b"ond", b"\n"):
        show(chunk)
    assert capsys.readouterr().err.splitlines() == ["loud.py prints: line é", "loud.py prints: second"]


def test_the_file_of_a_function_is_known_for_the_runs_provenance(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def good(completions): return [1.0]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    configs = [
        FunctionConfig(function=f) for f in ("mine.py:good", "mine:good", "exact_match", "plaudit.x:y", "no.py:f")
    ]
    files = function_files(configs)
    assert {Path(path).name for path in files} == {"mine.py"}
    (tmp_path / "mine.py").write_text("def good(completions): return [-1.0]\n", encoding="utf-8")
    assert set(function_files(configs)) == set(files)
    assert set(function_files(configs).values()).isdisjoint(files.values())
