"""What every name in the report means: the declared metrics, and the words that the report itself brings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plaudit.records.results import Measure
from plaudit.telemetry.register import measure_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One entry of the glossary."""

    id: str
    """The popover's id: letters and digits whatever the key holds."""
    key: str
    unit: str
    meaning: str
    better: str
    """"up", "down" or ""."""
    formula: str = ""

    @property
    def is_key(self) -> bool:
        """A metric's key, not a phrase (the page sets it in another face)."""
        return re.fullmatch(r"\S+/\S+", self.key) is not None


# key: (unit, meaning, formula)
OWN_TERMS = {
    "status": (
        "",
        "Finished: the run wrote its summary. Interrupted: it has logged something but no summary; one that is still "
        "going looks the same. Never started: it left nothing, or nothing but its configuration; a stage that logs no "
        "metrics looks so until it finishes.",
        "",
    ),
    "score": ("score units", "What the judge (a reward model or function) says of a whole response.", "r(x, y)"),
    "true score": (
        "score units",
        "The known true reward of a response. Only made-up worlds have one; training never sees it.",
        "",
    ),
    "KL": (
        "nats",
        "How far a response lies from what the reference would write: the log-ratio summed over its tokens. "
        "For a single response the sum may be negative; the expectation is not.",
        "Σ_t [log π_θ(y_t | x, y_<t) − log π_ref(y_t | x, y_<t)]",
    ),
    "√KL": (
        "√nats",
        "Square root of the mean KL: the distance over which scores under optimisation bend smoothly (Gao, Schulman, "
        "Hilton 2022). A true score that falls while the judge's still rises is over-optimisation.",
        "√( (1/B) Σ_b Σ_t [log π_θ − log π_ref] );  0 where noise makes the mean negative",
    ),
    "gain": (
        "score units",
        "Score after training minus score before it, for the same prompt.",
        "r(x, y_after) − r(x, y_before)",
    ),
    "finish reason": (
        "",
        "eos: the policy wrote an end token. stop: a stop string appeared. length: the token limit cut it off.",
        "",
    ),
    "floor": (
        "the metric's unit",
        "The known reference at the worse end: what is reached without the stage, such as an untrained model's loss, "
        "chance, or the objective before PPO.",
        "",
    ),
    "ceiling": (
        "the metric's unit",
        "The known reference at the better end, the best that anything can reach: for a loss the entropy of the text, "
        "for a reward model the accuracy attainable under noisy labels, for PPO the optimum J* of its objective.",
        "J* = E_x[ β log E_{y∼π_ref(·|x)} e^{r(x,y)/β} ],  J = E[r] − β·KL",
    ),
    "interval": ("the metric's unit", "The value's confidence interval: 95 %.", ""),
    "share reached": (
        "",
        "How far the value lies on the way from the worse reference to the better one; outside 0 to 100 % where it "
        "lies beyond them.",
        "(value − worse) / (better − worse)",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """A result that the table of results names by a phrase instead of a key."""

    pattern: str
    """Searched in the phrase; the first that is found counts."""
    meaning: str
    formula: str
    better: str
    curve: str = ""
    """The declared key whose curve goes towards this number, if there is one on the same scale."""


# What `eval reward` writes.
REWARD_EVAL = (
    Phrase(
        pattern="^pair accuracy where the better answer",
        meaning="Pair accuracy over the pairs whose better answer (by the labels) is the longer, or the shorter one, "
        "in code points. A judge without a length bias has the two alike; one that counts characters has 1 and 0.",
        formula="share of those pairs with r(x, y_w) > r(x, y_l), plus half the share with equality",
        better="up",
    ),
    Phrase(
        pattern="^pair accuracy, expected under",
        meaning="How often the judge would agree with a labeller, computed from the known probability of each label "
        "instead of one drawn label. Ceiling: a judge who knows the true reward.",
        formula="mean over pairs of P(label agrees with the judge's order); equal scores count ½",
        better="up",
    ),
    Phrase(
        pattern="^pair accuracy",
        meaning="Share of the pairs that the judge orders as the labels do; equal scores count half, pairs that the "
        "labels tie are left out. Ceiling, where rows carry several votes: a labeller against the other labellers.",
        formula="share of pairs with r(x, y_w) > r(x, y_l), plus half the share with equality",
        better="up",
    ),
    Phrase(
        pattern="^floor on the same pairs",
        meaning="Pair accuracy of a judge that knows no language, on the same pairs: the longer answer wins, or a bag "
        "of words that was fitted to training pairs.",
        formula="",
        better="",
    ),
    Phrase(
        pattern="^agreement: ",
        meaning="How labellers agree on the same pairs. Two labellers: of those who both prefer an answer, how often "
        "the same. One against others: with the majority of the others, own ties counting half.",
        formula="",
        better="",
    ),
    Phrase(
        pattern="^correlation of score with length",
        meaning="Pearson correlation of score and length in code points, each prompt's means taken out.",
        formula="corr(r − r̄_x, |y| − mean |y|_x)",
        better="",
    ),
    Phrase(
        pattern="^first-listed answer wins",
        meaning="Share of the pairs whose first-listed answer scores higher, equal scores counting half. Without a "
        "position bias it is near the share in which the labels prefer it.",
        formula="",
        better="",
    ),
    Phrase(
        pattern="^winner changes",
        meaning="Share of the pairs whose winner is another one when the prompt's answers are listed in the opposite "
        "order. 0 for a judge that scores each answer by itself.",
        formula="",
        better="down",
    ),
    Phrase(
        pattern="^log loss of P",
        meaning="What it costs to believe the judge's P(better) = σ(score difference). log 2 is what always "
        "saying ½ gets.",
        formula="mean of −log σ(r(x, y_w) − r(x, y_l))",
        better="down",
    ),
    Phrase(
        pattern="^Brier score of σ",
        meaning="Mean squared error of σ(score) as the probability of acceptance. Floor: the base rate for everybody.",
        formula="mean (σ(r) − label)²",
        better="down",
    ),
    Phrase(
        pattern="^Brier score",
        meaning="Mean squared error of the judge's P(better) = σ(score difference). ¼ is what ½ everywhere gets.",
        formula="mean (σ(r(x, y_w) − r(x, y_l)) − 1)²",
        better="down",
    ),
    Phrase(
        pattern="^expected calibration error",
        meaning="How far the judge's confidence in its favourite is from how often it is right, in bins of equal "
        "width.",
        formula="Σ_b n_b/n |mean confidence − accuracy|",
        better="down",
    ),
    Phrase(
        pattern="correlation with the ratings",
        meaning="How scores follow ratings over all answers, the mean of several labellers' where there are such. "
        "Ceiling (Pearson): single ratings with the mean of the other labellers'.",
        formula="",
        better="up",
    ),
    Phrase(
        pattern="^RMSE to the ratings",
        meaning="Distance of scores from ratings, in the ratings' unit: of use where the judge learnt this very scale. "
        "Floor: the ratings' mean for everybody.",
        formula="√ mean (r − y)²",
        better="down",
    ),
    Phrase(
        pattern="^accuracy of `score > 0`",
        meaning="Share of the answers that are accepted by the labels and score above 0, or are not and score below. "
        "Floor: the more frequent label for everybody.",
        formula="",
        better="up",
    ),
    Phrase(
        pattern="^area under the ROC curve",
        meaning="Probability that an accepted answer scores above one that is not, whatever their prompts; ties half.",
        formula="",
        better="up",
    ),
)

PHRASES = (
    *REWARD_EVAL,
    Phrase(
        pattern="floor: longer wins",
        meaning="Share of the same held-out pairs in which the longer answer is the preferred one: what a judge "
        "reaches that only counts characters.",
        formula="share of pairs with |y_w| > |y_l|, plus half the share with equality",
        better="",
    ),
    Phrase(
        pattern="floor: bag of words",
        meaning="The accuracy on the same held-out pairs of a logistic regression on the words of the two answers, "
        "fitted to the training pairs: what a judge reaches that knows no word order.",
        formula="score = Σ_word w(word) · log(1 + count(word))",
        better="up",
    ),
    Phrase(
        pattern="accuracy.*expected",
        meaning="How often the model would agree with a labeller, over held-out pairs, computed from the known "
        "probability of each label instead of one drawn label. Ceiling: a judge who knows the true reward.",
        formula="mean over pairs of P(label agrees with the model's order); equal scores count ½",
        better="up",
        curve="reward/held_out_accuracy_over_pairs",
    ),
    Phrase(
        pattern="accuracy",
        meaning="Share of held-out pairs that the model orders as the labels do; equal scores count half.",
        formula="share of pairs with r(x, y_w) > r(x, y_l), plus half the share with equality",
        better="up",
        curve="reward/held_out_accuracy_over_pairs",
    ),
    Phrase(
        pattern="log-likelihood per answer",
        meaning="−log p of a whole held-out answer under the model, given its prompt; mean over answers. No model can "
        "come below the entropy of the answers.",
        formula="−(1/B) Σ_b Σ_t log π_θ(y_t | x, y_<t)",
        better="down",
        curve="sft/held_out_nll_over_answers",
    ),
    Phrase(
        pattern="win rate",
        meaning="Share of the prompts on which the judge scores this policy's answer above the baseline's; ties count "
        "half. 0.5: no difference.",
        formula="(wins + ½ ties) / prompts",
        better="up",
    ),
    Phrase(
        pattern="progress",
        meaning="How far the policy came, on the objective that PPO optimises, from baseline (0) to optimum (1). "
        "J* is computed by listing the answers, so it is a lower bound of the optimum.",
        formula="(J − J_ref) / (J* − J_ref),  J = E[r] − β·KL,  J* = E_x[ β log E_{y∼π_ref(·|x)} e^{r(x,y)/β} ]",
        better="up",
    ),
    Phrase(
        pattern="objective",
        meaning="What PPO optimises, from fresh samples on held-out prompts: the score less the price of the KL.",
        formula="J = E[r] − β·KL",
        better="up",
        curve="ppo/objective_over_responses",
    ),
    Phrase(
        pattern="score by the judge",
        meaning="What the comparison's judge says of the policy's answers to held-out prompts, mean over prompts. It "
        "need not be the judge that PPO was trained with.",
        formula="(1/B) Σ_b r(x_b, y_b)",
        better="up",
    ),
)


def glossary(keys: Iterable[str], units: Mapping[str, str]) -> dict[str, Term]:
    """The report's own terms, then those of the keys in alphabetical order. Undeclared keys say that they are.

    `units` gives the unit of results that are phrases.
    """
    own = [
        Term(id=f"term-own-{index}", key=key, unit=unit, meaning=meaning, better="", formula=formula)
        for index, (key, (unit, meaning, formula)) in enumerate(OWN_TERMS.items())
    ]
    others = sorted(set(keys) - set(OWN_TERMS))
    metrics = [_metric_term(f"term-{index}", key, units.get(key, "")) for index, key in enumerate(others)]
    return {term.key: term for term in (*own, *metrics)}


def declared(key: str) -> Measure | None:
    """The key's declaration, or None: a run of another version may have logged what this one doesn't know."""
    try:
        return measure_of(key)
    except ValueError:
        return None


def phrase(key: str) -> Phrase | None:
    """The phrase that a result's name holds, or None."""
    return next((known for known in PHRASES if re.search(known.pattern, key)), None)


def curve(metric: str) -> str:
    """The declared key on whose curves a result's floor and ceiling belong; "" for none."""
    if declared(metric):
        return metric
    known = phrase(metric)
    return known.curve if known else ""


def unit(key: str) -> str:
    """The metric's declared unit; "" where it is undeclared."""
    metric = declared(key)
    return metric.unit if metric else ""


def better(key: str) -> str:
    """ "up", "down", or "" where neither way is better, or nothing is known."""
    metric = declared(key) or phrase(key)
    return metric.better if metric else ""


def _metric_term(identifier: str, key: str, told_unit: str) -> Term:
    metric = declared(key)
    known = phrase(key)
    if metric is None:
        unknown = "Written by the run under this name; this version of plaudit has no definition of it."
        return Term(
            id=identifier,
            key=key,
            unit=told_unit,
            meaning=known.meaning if known else unknown,
            better=known.better if known else "",
            formula=known.formula if known else "",
        )
    about = {"unit": metric.unit, "meaning": metric.meaning, "better": metric.better, "formula": metric.formula}
    return Term(id=identifier, key=key, **about)
