"""How reward functions are called, and what happens to what they return (faults 13, 15, 16)."""

import asyncio
import math
import sys

import numpy as np
import pytest
import torch

from plaudit.errors import UserError
from plaudit.records.text import Form, Group, Message, Prompt, PromptRow
from plaudit.scoring.functions import HOPELESS, FunctionScorer, function_scorer
from plaudit.scoring.isolate import CallFailed
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import check_columns
from plaudit.scoring.results import FailureKind
from tests.kills import kills


def text_group(prompt: str, /, *responses: str, ids: tuple[tuple[int, ...], ...] = (), **columns) -> Group:
    return Group(prompt=Prompt.of_text(prompt), responses=responses, response_ids=ids, columns=columns)


def chat_group(turns: list[tuple[str, str]], *responses: str, **columns) -> Group:
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    return Group(prompt=Prompt(form=Form.CHAT, turns=messages), responses=responses, columns=columns)


def scorer_of(function, **options) -> FunctionScorer:
    return FunctionScorer(function=function, name="mine", **options)


TWO = [text_group("p", "a", "bb"), text_group("q", "ccc")]


# --- the call -------------------------------------------------------------------------------------------------------


def test_the_function_sees_flat_lists_in_the_ecosystems_form():
    seen = {}

    def reward(**given):
        seen.update(given)
        return [0.5, 1.5, 2.5]

    groups = [
        text_group("p", "a", "bb", ids=((1,), (2, 3)), solution="s", n=7),
        text_group("q", "ccc", ids=((4, 5, 6),), solution=["t", "u"]),
    ]
    scores = scorer_of(reward).score(groups)
    assert seen == {
        "prompts": ["p", "p", "q"],
        "completions": ["a", "bb", "ccc"],
        "completion_ids": [[1], [2, 3], [4, 5, 6]],
        "solution": ["s", "s", ["t", "u"]],
        "n": [7, 7, None],
    }
    assert scores.scores.tolist() == [0.5, 1.5, 2.5]
    assert scores.scores.dtype == torch.float32
    assert scores.valid.tolist() == [True, True, True]
    assert scores.parts["mine"].tolist() == [0.5, 1.5, 2.5]


def test_chat_prompts_and_completions_are_message_lists():
    seen = {}

    def reward(prompts, completions):
        seen.update(prompts=prompts, completions=completions)
        return [1, 2]

    scorer_of(reward).score([chat_group([("system", "be kind"), ("user", "hi")], "hello", "hey")])
    prompt = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    assert seen["prompts"] == [prompt, prompt]
    assert seen["completions"] == [[{"role": "assistant", "content": text}] for text in ("hello", "hey")]


def test_the_assistants_own_beginning_belongs_to_the_completion():
    def reward(prompts, completions):
        assert prompts == [[{"role": "user", "content": "hi"}]]
        return [float(completions[0][0]["content"] == "Dear reader")]

    group = chat_group([("user", "hi"), ("assistant", "Dear ")], "reader")
    assert scorer_of(reward).score([group]).scores.tolist() == [1.0]


def test_rendered_prompts_are_strings():
    group = Group(prompt=Prompt.of_text("<|user|>hi<|bot|>", Form.RENDERED), responses=("x",))
    assert (
        scorer_of(lambda prompts, completions: [float(prompts == ["<|user|>hi<|bot|>"])]).score([group]).scores == 1.0
    )


def test_texts_and_chats_in_one_batch_come_apart_and_return_to_their_places():
    calls = []

    def reward(prompts, completions):
        calls.append({type(prompt).__name__ for prompt in prompts})
        return [len(c) if isinstance(c, str) else 100 + len(c[0]["content"]) for c in completions]

    groups = [text_group("p", "a"), chat_group([("user", "u")], "bb", "ccc"), text_group("q", "dddd")]
    assert scorer_of(reward).score(groups).scores.tolist() == [1.0, 102.0, 103.0, 4.0]
    assert calls == [{"str"}, {"list"}]


def test_a_function_without_columns_is_given_what_it_takes():
    def reward(completions, solution, missing=5):
        return [float(c == s) + missing for c, s in zip(completions, solution, strict=True)]

    group = text_group("p", "a", "b", ids=((1,), (2,)), solution="b", other=1)
    assert scorer_of(reward).score([group]).scores.tolist() == [5.0, 6.0]


def test_ids_are_absent_where_unknown_and_an_error_where_wanted():
    assert scorer_of(lambda **given: [float("completion_ids" in given)]).score([text_group("p", "a")]).scores == 0.0
    with pytest.raises(UserError, match=r"completion_ids"):
        scorer_of(lambda completions, completion_ids: [1.0]).score([text_group("p", "a")])
    with pytest.raises(ValueError, match="2 responses"):
        scorer_of(lambda completions: [1.0, 1.0]).score([text_group("p", "a", "b", ids=((1,),))])


def test_prompt_and_completion_columns_are_left_out():
    def reward(completions, **columns):
        assert set(columns) == {"prompts", "kept"}
        return [0.0]

    scorer_of(reward).score([text_group("p", "a", prompt="x", completion="y", completion_ids=[1], kept=1)])


def test_a_column_with_the_name_of_an_argument_is_refused():
    with pytest.raises(UserError, match="'completions'"):
        scorer_of(lambda completions, **columns: [0.0]).score([text_group("p", "a", completions="x")])
    with pytest.raises(UserError, match="'n'"):
        scorer_of(lambda completions, n: [n], args={"n": 3}).score([text_group("p", "a", n=4)])


def test_a_builtin_reads_its_own_columns_only():
    # A data column that happens to be called like an option must not reach it.
    scorer = function_scorer(FunctionConfig(function="repetition"))
    assert scorer.score([text_group("p", "a b a b", n="three", unit="x")]).scores.item() == pytest.approx(1 / 3)


def test_options_reach_the_function():
    scorer = function_scorer(FunctionConfig(function="repetition", args={"n": 1}, name="loops"))
    result = scorer.score([text_group("p", "a a a a")])
    assert result.scores.tolist() == [0.75]
    assert list(result.parts) == ["loops"]


def test_no_groups_give_no_scores_and_no_call():
    def reward(completions):
        raise AssertionError("called for nothing")

    assert scorer_of(reward).score([]).scores.shape == (0,)
    assert scorer_of(reward).score([text_group("p")]).valid.shape == (0,)


def test_scribbling_on_the_inputs_harms_nobody():
    nested = {"a": [1]}
    group = chat_group([("user", "u")], "x", "y", solution=["s"], nested=nested)
    args = {"list": [1]}

    def reward(prompts, completions, **given):
        assert given["solution"] == [["s"], ["s"]]
        assert given["nested"] == [{"a": [1]}, {"a": [1]}]
        assert given["list"] == [1]
        prompts[0].clear()
        assert prompts[1]  # copies of one another too
        completions[0][0]["content"] = "changed"
        given["solution"][0].append("t")
        given["nested"][0]["a"].append(2)
        given["list"].append(2)
        return [1.0, 2.0]

    scorer = scorer_of(reward, args=args)
    for _ in range(2):
        assert scorer.score([group]).scores.tolist() == [1.0, 2.0]
    assert group.columns == {"solution": ["s"], "nested": {"a": [1]}}
    assert args == {"list": [1]}


# --- async ----------------------------------------------------------------------------------------------------------


async def slow_length(completions, **columns):
    await asyncio.sleep(0.001)
    return [len(c) for c in completions]


def test_coroutines_are_awaited_on_one_loop():
    loops = []

    async def reward(completions):
        loops.append(asyncio.get_running_loop())
        return [len(c) for c in completions]

    scorer = scorer_of(reward)
    assert scorer.score(TWO).scores.tolist() == scorer.score(TWO).scores.tolist() == [1.0, 2.0, 3.0]
    assert loops[0] is loops[1]


def test_coroutines_are_awaited_inside_a_running_loop_too():
    async def notebook():
        return scorer_of(slow_length).score(TWO).scores.tolist()

    assert asyncio.run(notebook()) == [1.0, 2.0, 3.0]


def test_a_coroutine_that_raises_or_exits_is_a_failure_and_the_loop_lives_on():
    async def leaves(completions):
        sys.exit(3)

    async def raises(completions):
        raise OSError("endpoint gone")

    with pytest.raises(UserError, match=r"sys\.exit"):
        scorer_of(leaves).score(TWO)
    with pytest.raises(UserError, match="endpoint gone"):
        scorer_of(raises).score(TWO)
    assert scorer_of(slow_length).score(TWO).scores.tolist() == [1.0, 2.0, 3.0]


# --- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        [1, 2.5, True],
        (1, 2.5, 1),
        np.array([1, 2.5, 1]),
        torch.tensor([1, 2.5, 1], requires_grad=True),
        [np.float32(1), np.array(2.5), torch.tensor(1)],
        [np.int64(1), 2.5, np.bool_(True)],
    ],
)
def test_every_flat_list_of_numbers_is_read(result):
    assert scorer_of(lambda completions: result).score(TWO).scores.tolist() == [1.0, 2.5, 1.0]


def test_none_abstains_and_is_counted():
    scorer = scorer_of(lambda completions: [1.0, None, 3.0])
    scores = scorer.score(TWO)
    assert scores.scores.tolist() == [1.0, 0.0, 3.0]
    assert scores.valid.tolist() == [True, False, True]
    assert math.isnan(scores.parts["mine"][1].item())
    assert scorer.tally.counts == {"rows": 3, "abstained": 1}


@kills(
    "scoring/results.py",
    old="        if result.ndim != 1:\n",
    new="        if result.ndim == 0:\n",
    why="a matrix of scores is broadcast",
)
@kills(
    "scoring/results.py",
    old="    if len(entries) != len(rows):\n",
    new="    if len(entries) < len(rows):\n",
    why="scores shifted against their rows",
)
@pytest.mark.parametrize(
    "result",
    [
        1.0,
        "abc",
        None,
        {"a": 1.0, "b": 2.0, "c": 3.0},
        iter([1.0, 2.0, 3.0]),
        [1.0, 2.0],
        [1.0, 2.0, 3.0, 4.0],
        [],
        [1.0],
        np.float32(1.0),
        np.ones((3, 1)),
        np.ones((1, 3)),
        torch.ones(3, 1),
        torch.ones(()),
        torch.ones(3, device="meta"),
    ],
)
@pytest.mark.parametrize("on_error", ["error", "abstain"])
def test_anything_else_is_refused_by_name_whatever_the_policy(result, on_error):
    with pytest.raises(UserError, match=r"'mine' must return one number .* each of the 3 completions"):
        scorer_of(lambda completions: result, on_error=on_error).score(TWO)


def test_a_lone_number_is_not_a_list_of_one():
    with pytest.raises(UserError, match=r"not float 1\.0$"):
        scorer_of(lambda completions: 1.0).score([text_group("p", "a")])


@pytest.mark.parametrize("value", ["2.0", [2.0], (2.0,), 2 + 0j, {"score": 2.0}, np.ones(1), torch.ones(1, 1), b"2"])
@pytest.mark.parametrize("on_error", ["error", "abstain"])
def test_an_entry_that_is_no_number_is_refused_by_row(value, on_error):
    with pytest.raises(UserError, match=r"'mine': row 1 \(prompt [0-9a-f]{16} 'p', response 'bb'\): returned"):
        scorer_of(lambda completions: [1.0, value, 3.0], on_error=on_error).score(TWO)


BROKEN = [math.nan, math.inf, -math.inf, np.float64("nan"), 1e39, -1e300, 10**400, 10**5000]
broken_values = pytest.mark.parametrize("value", BROKEN, ids=range(len(BROKEN)))  # 10**5000 has no text


@broken_values
def test_a_number_that_is_not_finite_in_float32_is_refused_by_row(value):
    with pytest.raises(UserError, match=r"row 2 .*'ccc'\): returned .* finite float32"):
        scorer_of(lambda completions: [1.0, 2.0, value]).score(TWO)


@broken_values
def test_or_left_out_and_counted_where_the_policy_says_so(value):
    scorer = scorer_of(lambda completions: [1.0, 2.0, value], on_error="abstain")
    assert scorer.score(TWO).valid.tolist() == [True, True, False]
    assert scorer.tally.counts == {"rows": 3, "abstained": 0, "not_finite": 1}
    assert "row 2" in scorer.tally.examples[0]


def test_the_largest_float32_is_still_a_number():
    assert scorer_of(lambda completions: [3.4028234e38]).score([text_group("p", "a")]).valid.item()


# --- a function that raises -----------------------------------------------------------------------------------------


def picky(completions, **columns):
    """Raises for every batch that holds "bb"."""
    return [1.0 / (c != "bb") for c in completions]


def test_the_row_that_raises_is_named_with_the_line_of_the_function():
    with pytest.raises(
        UserError, match=r"'mine': row 1 .*'bb'\): raised ZeroDivisionError.*test_functions\.py:\d+"
    ) as info:
        scorer_of(picky).score(TWO)
    assert isinstance(info.value.__cause__, ZeroDivisionError)


def test_the_prompt_of_the_row_that_raises_is_named():
    with pytest.raises(UserError, match=f"prompt {TWO[0].prompt.id} 'p'"):
        scorer_of(picky).score(TWO)


def test_after_the_culprit_is_found_no_more_rows_are_called():
    calls = []

    def reward(completions):
        calls.append(list(completions))
        return picky(completions)

    with pytest.raises(UserError):
        scorer_of(reward).score(TWO)
    assert calls == [["a", "bb", "ccc"], ["a"], ["bb"]]


def test_abstain_leaves_out_that_row_alone():
    scorer = scorer_of(picky, on_error="abstain")
    scores = scorer.score(TWO)
    assert scores.scores.tolist() == [1.0, 0.0, 1.0]
    assert scores.valid.tolist() == [True, False, True]
    assert scorer.tally.counts == {"rows": 3, "abstained": 0, "raised": 1}
    assert "ZeroDivisionError" in scorer.tally.examples[0]


def test_value_gives_that_row_the_fixed_score():
    scores = scorer_of(picky, on_error="value", error_value=-2.0).score(TWO)
    assert scores.scores.tolist() == [1.0, -2.0, 1.0]
    assert scores.valid.tolist() == [True, True, True]


def test_sys_exit_is_a_failure_too():
    def reward(completions):
        sys.exit(0)

    with pytest.raises(UserError, match="SystemExit"):
        scorer_of(reward).score(TWO)


def test_interrupts_are_not_swallowed():
    def reward(completions):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scorer_of(reward, on_error="abstain").score(TWO)


def test_a_failure_of_the_whole_batch_says_so():
    def reward(completions):
        if len(completions) > 1:
            raise ValueError("one at a time")
        return [7.0]

    with pytest.raises(UserError, match=r"one at a time.*on 3 rows together, though on none of them alone"):
        scorer_of(reward).score(TWO)
    assert scorer_of(reward, on_error="abstain").score(TWO).scores.tolist() == [7.0, 7.0, 7.0]


def test_only_the_first_few_failures_are_kept_in_words():
    def reward(completions):
        raise ValueError("no")

    scorer = scorer_of(reward, on_error="abstain")
    scorer.score([text_group("p", *"abcdefghij")])
    assert scorer.tally.counts["raised"] == 10
    assert len(scorer.tally.examples) == 5


@pytest.mark.parametrize(
    ("on_error", "error_value"),
    [("value", None), ("error", 1.0), ("abstain", 0.0), ("value", math.nan), ("retry", None)],
)
def test_a_policy_without_effect_or_without_value_is_refused(on_error, error_value):
    with pytest.raises(UserError, match="error"):
        scorer_of(picky, on_error=on_error, error_value=error_value)
    with pytest.raises(UserError, match="error"):
        FunctionConfig(function="regex", on_error=on_error, error_value=error_value)


# --- columns that must be there -------------------------------------------------------------------------------------


def test_required_columns_are_declared_or_read_off_the_signature():
    def reward(prompts, completions, completion_ids, answer, level=1, *, key, **columns):
        return []

    assert scorer_of(reward).required_columns == ("answer", "key")
    assert scorer_of(reward, args={"key": 1}).required_columns == ("answer",)
    assert function_scorer(FunctionConfig(function="edit_distance")).required_columns == ("solution",)
    assert function_scorer(FunctionConfig(function="length_target", args={"target": 3})).required_columns == ()


@pytest.mark.parametrize(
    ("columns", "why"), [({}, "missing"), ({"solution": None}, "null"), ({"solution": []}, "empty list")]
)
@pytest.mark.parametrize("on_error", ["error", "abstain"])
def test_a_row_without_solution_is_named(columns, why, on_error):
    scorer = function_scorer(FunctionConfig(function="edit_similarity", on_error=on_error))
    groups = [text_group("p", "a", solution="s"), text_group("q", "b", **columns)]
    with pytest.raises(UserError, match=rf"row 1 .*'solution', which is {'an ' if 'empty' in why else ''}{why}"):
        scorer.score(groups)
    rows = [
        PromptRow(prompt=group.prompt, columns=group.columns, where=f"prompts.jsonl:{line}")
        for line, group in enumerate(groups, start=1)
    ]
    with pytest.raises(UserError, match=rf"prompts\.jsonl:2: .*'solution'.*{why}"):
        check_columns(scorer, rows)
    check_columns(scorer, rows[:1])


def test_an_empty_solution_is_a_solution():
    scorer = function_scorer(FunctionConfig(function="exact_match"))
    assert scorer.score([text_group("p", "", solution="")]).scores.tolist() == [1.0]


def test_a_users_function_may_get_null_but_not_nothing():
    scorer = scorer_of(lambda completions, answer: [None if a is None else 1.0 for a in answer])
    assert scorer.score([text_group("p", "a", answer=None)]).valid.tolist() == [False]
    with pytest.raises(UserError, match="'answer', which is missing"):
        scorer.score([text_group("p", "a")])


def test_a_solution_of_the_wrong_kind_names_its_row():
    scorer = function_scorer(FunctionConfig(function="edit_similarity"))
    with pytest.raises(UserError, match=r"row 1 .*'edit_similarity' can't use the column 'solution'.*not int: 42"):
        scorer.score([text_group("p", "a", solution="s"), text_group("q", "b", solution=42)])


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        ("length_target", {}, "'target'"),
        ("length_target", {"target": -1}, "target must be a positive number"),
        ("length_target", {"tarlget": 1}, r"no option 'tarlget'; did you mean 'target'\?"),
        ("repetition", {"unit": "lines"}, "unit must be"),
        ("repetition", {"completions": []}, "no option 'completions'"),
        ("edit_distance", {"solution": "a"}, "no option 'solution'"),
        ("keywords", {}, "required"),
    ],
)
def test_options_are_checked_before_anything_is_scored(function, args, message):
    with pytest.raises(UserError, match=message):
        function_scorer(FunctionConfig(function=function, args=args))


# --- hanging again and again ----------------------------------------------------------------------------------------


@kills(
    "scoring/functions.py",
    old="if len(outcomes) == HOPELESS and all(",
    new="if len(outcomes) == HOPELESS and any(",
    why="rows given up though the function answers",
)
@pytest.mark.parametrize(
    ("hanging", "calls", "judged"),
    [
        (range(9), 1 + HOPELESS, []),  # nothing answers: the rest isn't waited for
        ((0, 1, 2, 4, 5, 6, 7, 8), 1 + 9, [3]),  # one of the first four did: each row gets its chance
        ((5, 6, 7, 8), 1 + 9, [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("by_token", [False, True])
def test_a_judge_on_which_the_first_rows_all_hang_is_given_up(hanging, calls, judged, by_token, capsys):
    asked: list[list[str]] = []

    def judge(completions):
        asked.append(completions)
        if any(int(text) in hanging for text in completions):
            raise CallFailed(FailureKind.TIMED_OUT, "gave no answer")
        return [[2.0] if by_token else 2.0 for _ in completions]

    scorer = scorer_of(judge, on_error="value", error_value=-1.0, by_token=by_token)
    group = text_group("p", *map(str, range(9)), ids=tuple((i,) for i in range(9)))
    assert scorer.score([group]).scores.tolist() == [2.0 if i in judged else -1.0 for i in range(9)]
    assert len(asked) == calls
    assert scorer.tally.counts["timed_out"] == 9 - len(judged)
    assert any("was not called: the 4 rows before it all hung" in line for line in scorer.tally.examples) == (
        not judged
    )


def test_rows_that_fail_otherwise_are_all_called():
    asked: list[list[str]] = []

    def judge(completions):
        asked.append(completions)
        raise ValueError("never")

    scorer = scorer_of(judge, on_error="abstain")
    assert scorer.score([text_group("p", *"abcdefg")]).valid.tolist() == [False] * 7
    assert len(asked) == 8


def test_rows_that_are_only_slow_together_keep_their_scores(capsys):
    """A limit for each row, and one for all: what all need together is no fault of any."""

    def judge(completions):
        if len(completions) > 1:
            raise CallFailed(FailureKind.TIMED_OUT, "gave no answer within 12 s")
        return [1.0]

    scorer = scorer_of(judge)  # on_error: error
    for _ in range(2):
        assert scorer.score([text_group("p", *"abcdef")]).scores.tolist() == [1.0] * 6
    assert capsys.readouterr().err.count("judged one by one") == 1
    assert scorer.tally.counts["timed_out"] == 0
