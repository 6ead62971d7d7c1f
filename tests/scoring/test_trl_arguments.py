"""What TRL's trainers hand to reward functions besides texts and columns, and functions that are coroutines."""

import asyncio
import signal
import threading

import pytest

from plaudit.errors import UserError
from plaudit.scoring.combine import part_metrics, tell_step
from plaudit.scoring.functions import check_options
from plaudit.telemetry.register import measure_of
from tests.scoring.test_functions import scorer_of, text_group


def test_a_function_may_log_and_ask_how_far_training_is():
    def judge(completions, completions_ids, trainer_state, log_metric, log_extra, **columns):
        log_metric("length", len(completions[0]))
        log_metric("length", 4)
        log_extra("ids", [len(ids) for ids in completions_ids])
        log_extra("words", completions)
        return [float(trainer_state.global_step) / trainer_state.max_steps for _ in completions]

    scorer = scorer_of(judge)
    group = text_group("p", "ab", "c", ids=((1, 2), (3,)))
    tell_step(scorer, 3, 12)
    assert scorer.score([group]).scores.tolist() == [0.25, 0.25]
    metrics = part_metrics(scorer)
    assert (metrics["part_logged/mine/length_over_responses"], metrics["part_logged/mine/ids_over_responses"]) == (
        3.0,
        1.5,
    )
    assert measure_of("ppo/part_logged/mine/length_over_responses")
    assert "part_logged/mine/words" not in metrics
    assert not any("part_logged" in key for key in part_metrics(scorer)), "nothing new"
    assert scorer.required_columns == ()


def test_what_only_trl_has_is_refused_by_name():
    def judge(completions, environments):
        return [1.0]

    with pytest.raises(UserError, match=r"takes `environments`.*plaudit has no environments"):
        check_options(scorer_of(judge))


@pytest.mark.parametrize("parameter", ["text", "prompt", "completion"])
def test_a_beginners_signature_is_explained(parameter):
    judge = eval(f"lambda {parameter}: [1.0]")
    with pytest.raises(UserError, match=f"'{parameter}', which is missing; a reward function takes `prompts`"):
        scorer_of(judge).score([text_group("p", "a")])


def test_an_async_function_may_use_signals():
    """An alarm needs the main thread, so that is where a coroutine runs where it can."""

    async def judge(completions):
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.signal(signal.SIGALRM, before)
        await asyncio.sleep(0)
        return [float(threading.current_thread() is threading.main_thread())]

    assert scorer_of(judge).score([text_group("p", "a")]).scores.tolist() == [1.0]


def test_an_async_function_works_inside_of_a_running_loop():
    async def judge(completions):
        await asyncio.sleep(0)
        return [2.0]

    async def notebook():
        return scorer_of(judge).score([text_group("p", "a")])

    assert asyncio.run(notebook()).scores.tolist() == [2.0]
