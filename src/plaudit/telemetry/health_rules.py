"""What makes a run ill, stage by stage. docs/health.md has the same as a table, made of these records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.records.results import Result
from plaudit.telemetry.health import ENOUGH, FIRST, Level, ResultRule, Rule, Trend

CLEAR = 4.0
"""Standard errors from which on a series counts as moved."""
_GAO = "Gao, Schulman, Hilton 2022"


def _some_part(config: Mapping[str, Any], name: str) -> bool:
    """Whether a part of the score is a good, or only watched (weight 0), and there are others besides."""
    judges = [judge for judge in config.get("rewards", ()) if isinstance(judge, dict)]
    weights = {j.get("name") or str(j.get("function", "")).rpartition(":")[2]: j.get("weight", 1.0) for j in judges}
    return len(judges) > 1 and weights.get(name, 1.0) >= 0.0


def _position_counts(config: Mapping[str, Any], _: str) -> bool:
    """Whether a new critic's 0 makes a token's position worth something (docs/ppo.md, 4)."""
    advantage, shaping = config.get("advantage") or {}, config.get("shaping") or {}
    flat = advantage.get("gamma", 1.0) * advantage.get("gae_lambda", 0.95) == 1.0 or shaping.get("credit") == "token"
    is_helped = flat or config.get("critic_warmup") or shaping.get("normalise") or shaping.get("whiten")
    return advantage.get("kind", "gae") == "gae" and not is_helped and config.get("value_coef") != 0.0


def _learns(config: Mapping[str, Any], _: str) -> bool:
    """Not a control, whose labels say nothing."""
    return config.get("shuffle_labels") is not True


def _is_off_zero(value: Trend, score: Trend, spread: Trend) -> bool:
    return value.count <= FIRST and value.first == 0.0 and abs(score.last) > 2 * spread.last > 0.0


def _is_cut(ended: Trend, *_: Trend) -> bool:
    return ended.last <= 0.02 or (ended.count >= 8 and ended.last < 0.5 and ended.recent <= ended.first + 0.1)


# fmt: off
_PPO = (
    Rule(name="kl_far", stages=("ppo",), keys=("kl_ref_over_responses", "length_over_responses"), level=Level.ALARM,
         when="above 40 nats a response and 0.4 a token",
         holds=lambda kl, length, *_: kl.last > max(40.0, 0.4 * length.last),
         says="the KL to the reference is {now} nats a response, far beyond where a judge can be trusted",
         do="raise kl.coef or lower optim.learning_rate, and read answers with `plaudit inspect`",
         source=f"{_GAO}: what optimisation gains is spent long before; newcomers' runs at 44 to 164 nats"),
    Rule(name="kl_negative", stages=("ppo",), keys=("kl_ref_over_responses",), level=Level.ALARM,
         when="below −0.1 nats in 5 lines in a row", holds=lambda kl, *_: kl.last < -0.1, lines=5,
         says="the mean KL to the reference stays below 0 ({now} nats): the numbers don't belong together",
         do="look at kl_sampler_over_tokens: where it is above 0, sample in the precision that is trained in, or set "
         "sampler_mismatch; else report a bug",
         source="a KL is not negative; its estimate's mean is so by chance only"),
    Rule(name="ratio_high", stages=("ppo",), keys=("ratio_max",), when="above 20 in one of the last 5 lines",
         holds=lambda ratio, *_: ratio.peak > 20.0,
         says="a token's probability ratio reached {peak}: an update left the trust region",
         do="lower optim.learning_rate or epochs, or set brakes.max_approx_kl",
         source="docs/ppo.md: below 2 or so; 8 in a healthy run of 135M parameters"),
    Rule(name="clip_high", stages=("ppo",), keys=("clip_fraction_over_tokens",), when="above 1/3 in 2 lines in a row",
         holds=lambda clipped, *_: clipped.last > 1 / 3, lines=2,
         says="the clip cuts off {now} of the tokens: most of an update's gradient is lost",
         do="lower optim.learning_rate or epochs", source="docs/ppo.md: a few per cent"),
    Rule(name="entropy_collapsed", stages=("ppo",), keys=("entropy_over_tokens",),
         when="mean of the last 5 below 15 % of the first ones' or below 0.01 nats, in 3 lines in a row",
         holds=lambda entropy, *_: entropy.recent < max(0.15 * entropy.first, 0.01), lines=3,
         says="the entropy fell from {first} to {now} nats a token: the policy says one thing only",
         do="lower optim.learning_rate, raise kl.coef or objective.clip_range_high; an entropy_coef as a last resort",
         source="docs/ppo.md: it falls slowly"),
    Rule(name="critic_blind", stages=("ppo",), keys=("explained_variance", "score_std_over_responses"),
         when="not above 0 in 5 lines in a row, after 10 lines and the critic's warm-up",
         holds=lambda explained, spread, *_: explained.last <= 0.0 < spread.last, lines=5, after=10,
         says="the critic explains nothing of the returns (explained variance {now})",
         do="give it a trunk of its own (critic: {kind: separate}) or a critic_warmup; raise optim.learning_rate",
         source="docs/ppo.md: it rises towards 1"),
    Rule(name="answers_cut", stages=("ppo",), keys=("eos_over_responses",),
         when="2 lines in a row at most 2 % ended by themselves; or, from the 8th line on, below half and no better "
         "than at first", holds=_is_cut, lines=2,
         says="only {now} of the answers end by themselves: the others are cut by the limit and scored as if they "
         "ended", do="raise sampling.max_new_tokens, name the end by sampling.stop, or set shaping.unfinished",
         source="docs/ppo.md: near 1"),
    Rule(name="answers_grow", stages=("ppo",), keys=("length_over_responses",),
         when=f"mean of the last 5 above twice the first {FIRST} ones'",
         holds=lambda length, *_: length.count >= 6 and length.recent > 2 * length.first,
         says="answers grew from {first} to {now} tokens: the judge may like length",
         do="read the longest ones (`plaudit inspect --longest`); set shaping.length, or train the judge on pairs of "
         "like length", source="Singhal et al. 2023: much of what PPO gains is length"),
    Rule(name="answers_vanish", stages=("ppo",), keys=("length_over_responses",),
         when=f"mean of the last 5 below a quarter of the first {FIRST} ones'",
         holds=lambda length, *_: length.count >= 6 and length.recent < 0.25 * length.first,
         says="answers shrank from {first} to {now} tokens",
         do="read them (`plaudit inspect`): does the judge score an empty answer well, or a KL price per token?",
         source="a penalty by token is smallest where there is none"),
    Rule(name="answers_repeat", stages=("ppo",), keys=("repetition_over_responses",),
         when="mean of the last 5 above one half and 0.2 above the first ones'",
         holds=lambda repeated, *_: repeated.recent > max(0.5, repeated.first + 0.2),
         says="{now} of an answer's phrases repeat earlier ones: the policy goes round in circles",
         do="raise kl.coef, and add the reward function `repetition` with a negative weight",
         source="repeated runs of 4 tokens, as in Welleck et al. 2019 (seq-rep-4)"),
    Rule(name="scores_alike", stages=("ppo",),
         keys=("score_over_responses", "score_std_over_responses", "abstained_over_responses"),
         when="standard deviation 0 in 2 lines in a row",
         holds=lambda score, spread, mute: spread.last <= 1e-6 * (1e-3 + abs(score.last)) and mute.last < 0.99, lines=2,
         says="all answers score {now}: nothing is learnt but the KL's price",
         do="take other prompts or a judge that tells these answers apart; where all are right, stop here",
         source="without a spread all advantages are 0"),
    Rule(name="judge_abstains", stages=("ppo",), keys=("abstained_over_responses",),
         when="above 1/5 in 2 lines in a row", holds=lambda abstained, *_: abstained.last > 0.2, lines=2,
         says="the judge had no opinion on {now} of the answers: they teach nothing",
         do="read its messages above, and which answers have no score (`plaudit inspect`)",
         source="what is left is no sample of the policy's answers"),
    Rule(name="part_fails", stages=("ppo",), keys=("part_failed/{name}_over_responses",),
         when="above 1/10 in 2 lines in a row", holds=lambda failed, *_: failed.last > 0.1, lines=2,
         says="the reward function {name} failed on {now} of the answers",
         do="read its message above; mend it, or choose what a failure is worth by on_error",
         source="docs/reward-functions.md"),
    Rule(name="judge_reads_part", stages=("ppo",), keys=("part_cut/{name}_over_responses",),
         when="above 1/10 in 2 lines in a row", holds=lambda cut, *_: cut.last > 0.1, lines=2,
         says="{now} of the answers are too long for {name}, which judges them by a part of the text",
         do="lower sampling.max_new_tokens, or train a judge with a longer context", source="docs/reward-models.md"),
    Rule(name="judge_beyond_training", stages=("ppo",), keys=("part_beyond/{name}_over_responses",),
         when="above 1/2 in 3 lines in a row", holds=lambda beyond, *_: beyond.last > 0.5, lines=3,
         says="{now} of the answers score above everything that {name} was measured on: it guesses there",
         do="raise kl.coef or stop earlier; label the policy's own answers (`plaudit collect`) and train the judge "
         "again", source=_GAO),
    Rule(name="part_falls", stages=("ppo",), keys=("part/{name}_over_responses", "score_over_responses"),
         when=f"{CLEAR:g} standard errors down while the score is as many up, from {ENOUGH} lines on",
         holds=lambda part, score, *_: part.moved < -CLEAR and score.moved > CLEAR, applies=_some_part,
         says="the score rises while its part {name} falls, from {first} to {now}: one judge is paid for by another",
         do="read answers (`plaudit inspect`); change the weights, or stop earlier", source=_GAO),
    Rule(name="second_judge_falls", stages=("ppo",),
         keys=("held_out_part/{name}_over_prompts", "held_out_score_over_prompts"),
         when=f"{CLEAR:g} standard errors down while the judge's held-out score is as many up, from {ENOUGH} "
         "measurements on", holds=lambda other, score, *_: other.moved < -CLEAR and score.moved > CLEAR,
         says="on held-out prompts the score rises while {name} falls, from {first} to {now}: over-optimisation",
         do="take best/ or an earlier checkpoint, raise kl.coef, train the judge on the policy's own answers",
         source=_GAO),
    Rule(name="score_bought", stages=("ppo",), keys=("objective_over_responses", "score_over_responses"),
         when=f"{CLEAR:g} standard errors down while the score is as many up, from {ENOUGH} lines on",
         holds=lambda objective, score, *_: objective.moved < -CLEAR and score.moved > CLEAR,
         says="the objective fell from {first} to {now} while the score rises: the policy pays more KL than it gains",
         do="lower optim.learning_rate, or set kl.coef adaptive", source="docs/ppo.md"),
    Rule(name="score_falls", stages=("ppo",), keys=("score_over_responses",),
         when=f"{CLEAR:g} standard errors down, from {ENOUGH} lines on", holds=lambda score, *_: score.moved < -CLEAR,
         says="the score fell from {first} to {now}: training makes it worse",
         do="lower optim.learning_rate or value_coef, and look at explained_variance",
         source="docs/ppo.md: it rises, then flattens"),
    Rule(name="scores_off_zero", stages=("ppo",),
         keys=("value_over_tokens", "score_over_responses", "score_std_over_responses"),
         when="the first score is 2 standard deviations from 0 while the critic says 0", holds=_is_off_zero,
         applies=_position_counts,
         says="the scores are far from 0, where a new critic expects them: a token's position counts until it has "
         "learned", do="centre the scores (`reference:` of a reward model, or shaping.normalise), or set critic_warmup",
         source="docs/ppo.md, 4: Â_t = (γλ)^(T−t) r while V = 0"),
    Rule(name="sampler_differs", stages=("ppo",), keys=("kl_sampler_over_tokens",),
         when="above 0.01 nats a token in 2 lines in a row", holds=lambda gap, *_: gap.last > 0.01, lines=2,
         says="sampler and trainer are {now} nats a token apart: what is learnt from is not the policy's own",
         do="set the same precision for both, or sampler_mismatch", source="docs/ppo.md, sampler and trainer"),
)

# fmt: on
_LEARNING = ("sft", "reward", "ppo")
# fmt: off
_COMMON = (
    Rule(name="steps_skipped", stages=_LEARNING, keys=("skipped_updates",), when="above 0",
         holds=lambda skipped, *_: skipped.last > 0.0,
         says="{now} optimiser steps were left out: loss or gradient was not a finite number",
         do="lower optim.learning_rate, take device.precision fp32, and look into skipped/",
         source="docs/ppo.md, brakes"),
    Rule(name="loss_rises", stages=("sft",), keys=("loss_over_tokens",), level=Level.ALARM,
         when=f"mean of the last 5 above 1.3 times the first number, from {ENOUGH} lines on",
         holds=lambda loss, *_: loss.count >= ENOUGH and loss.recent > 1.3 * loss.start,
         says="the training loss rose from {start} to {recent} of late: the model is being destroyed",
         do="lower optim.learning_rate", source="a step that goes down cannot do so"),
    Rule(name="pair_loss_rises", stages=("reward",), keys=("loss_over_rows",), level=Level.ALARM,
         when=f"mean of the last 5 above 1.5 times the first number, from {ENOUGH} lines on",
         holds=lambda loss, *_: loss.count >= ENOUGH and loss.recent > 1.5 * loss.start,
         says="the training loss rose from {start} to {recent} of late: the model is being destroyed",
         do="lower optim.learning_rate", source="a step that goes down cannot do so"),
)

_SFT = (
    Rule(name="held_out_loss_rises", stages=("sft",), keys=("held_out_loss_over_tokens",),
         when="5 % above its lowest in 2 measurements in a row", holds=lambda loss, *_: loss.last > 1.05 * loss.lowest,
         lines=2, says="the held-out loss has risen again, to {now}: the model learns its rows by heart",
         do="take best/ instead of model/, and fewer epochs",
         source="over-fitting; best/ is where the held-out loss was lowest"),
    Rule(name="end_not_learned", stages=("sft",), keys=("held_out_end_over_answers",),
         when="below 0.1 from the 4th measurement on", holds=lambda end, *_: end.count >= 4 and end.last < 0.1,
         says="where held-out answers end the model gives the end token a probability of {now}: it won't stop",
         do="check that answers end with it (`plaudit data check`, model.end_tokens), and that too_long doesn't cut "
         "them", source="what never ends is cut by the limit in everything that follows"),
    Rule(name="rows_left_out", stages=("sft",), keys=("left_out_over_rows",), when="above one half",
         holds=lambda share, *_: share.last > 0.5,
         says="{now} of the training rows were left out because they are too long",
         do="raise max_length, or set too_long: truncate", source="what is left is another data set"),
    Rule(name="rows_cut", stages=("sft",), keys=("cut_over_rows",), when="above one half",
         holds=lambda share, *_: share.last > 0.5, says="{now} of the training rows were cut because they are too long",
         do="raise max_length", source="a cut answer teaches no end"),
)

_REWARD = (
    Rule(name="judge_overfits", stages=("reward",), keys=("held_out_accuracy_over_pairs", "accuracy_over_pairs"),
         when="0.2 below the accuracy on training rows, from the 2nd measurement on",
         holds=lambda held_out, train, *_: held_out.count >= 2 and train.recent - held_out.last > 0.2, applies=_learns,
         says="held-out accuracy is {now}, far below that on training rows: the judge learns its rows by heart",
         do="take one epoch, more prompts, or a lower optim.learning_rate",
         source="Ouyang et al. 2022, C.2: one epoch, more over-fits"),
    Rule(name="judge_surer_than_right", stages=("reward",), keys=("held_out_loss_over_prompts",),
         when=f"above 1.05 log 2 = {1.05 * math.log(2):.3f}, what a judge that always says ½ pays",
         holds=lambda loss, *_: loss.last > 1.05 * math.log(2.0), applies=_learns,
         says="the held-out loss is {now}, above that of a judge who always says one half: it is surer than right",
         do="take one epoch or a lower optim.learning_rate; are the labels those of these rows?",
         source="−log ½ = 0.693"),
)


# fmt: on


def _below_floor(result: Result, results: Sequence[Result]) -> float | None:
    rivals = [r for r in results if (r.measure, r.part, r.role) == (result.measure, result.part, "floor")]
    best = max([r.value for r in rivals] + ([] if result.floor is None else [result.floor]), default=-math.inf)
    is_opposite = _opposite(result, results) is not None
    return result.value if result.value <= best and result.value < 0.995 and not is_opposite else None


def _one_side_longer(result: Result, results: Sequence[Result]) -> float | None:
    longer = [r.value for r in results if (r.measure, r.subject, r.role) == (result.measure, "longer wins", "floor")]
    return next((share for share in longer if not 0.1 < share < 0.9), None)


def _opposite(result: Result, results: Sequence[Result]) -> float | None:
    return result.value if result.high is not None and result.high < 0.5 else None


def _miscalibrated(result: Result, results: Sequence[Result]) -> float | None:
    return result.value if result.facts.get("has_scale") and result.value > 0.15 else None


_ACCURACY = ("held_out_accuracy_over_pairs",)
# fmt: off
RESULT_RULES = (
    ResultRule(name="judge_below_floor", stages=("reward", "reward_eval"), keys=_ACCURACY,
               when="not above its best floor: a coin, length, a bag of words", breaks=_below_floor, applies=_learns,
               says="{name} orders {now} of the held-out pairs right, no more than a judge that knows no language",
               do="more comparisons, a larger model or another optim.learning_rate; don't optimise against it",
               source="docs/reward-models.md, floors"),
    ResultRule(name="one_side_longer", stages=("reward", "reward_eval"), keys=_ACCURACY,
               when="`longer wins` is right in more than 90 % of the pairs, or in fewer than 10 %",
               breaks=_one_side_longer, applies=_learns,
               says="the longer answer wins in {now} of the pairs: the labels can be met by counting letters",
               do="add pairs whose better answer is of the other length", source="Singhal et al. 2023"),
    ResultRule(name="judge_opposite", stages=("reward", "reward_eval"), keys=_ACCURACY, level=Level.ALARM,
               when="the whole interval below one half", breaks=_opposite, applies=_learns,
               says="{name} orders only {now} of the held-out pairs as their labels do: the wrong way round",
               do="are chosen and rejected swapped, or is a lower score the better one?",
               source="a coin is right in one half"),
    ResultRule(name="judge_miscalibrated", stages=("reward_eval",), keys=("calibration_error_over_pairs",),
               when="above 0.15, of a judge whose scores are nats of preference", breaks=_miscalibrated,
               says="{name} is {now} off in how sure it is of its favourites",
               do="trust its order and not its differences: shaping.normalise; train it for fewer epochs",
               source="docs/evaluation.md, calibration"),
)
# fmt: on
RULES = (*_COMMON, *_PPO, *_SFT, *_REWARD)
