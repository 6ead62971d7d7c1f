"""The best that PPO can do, where a prompt's answers can be listed (docs/evaluation.md)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from plaudit.errors import UserError
from plaudit.formulas.optimum import Optimum, kl_regularised_optimum, mean_optimum
from plaudit.hardware.machine import Machine
from plaudit.models.load import Language
from plaudit.models.trunk import Trunk
from plaudit.records.text import Group, PromptRow
from plaudit.scoring.protocol import Scorer, check_scores, num_responses
from plaudit.tokens.batches import by_token_budget, pack_shared


@torch.no_grad()
def answer_logprobs(
    trunk: Trunk,
    prompt_ids: list[int],
    responses: Sequence[Sequence[int]],
    temperature: float,
    machine: Machine,
    budget: int = 16384,
) -> list[float]:
    """log π(y | x) of answers to one prompt, nats, each the sum over its ids."""
    logprobs: list[float] = []
    for cut in by_token_budget(map(len, responses), budget):
        batch = pack_shared([(prompt_ids, [responses[i] for i in cut])]).to(machine.device)
        with machine.autocast():
            out = trunk(batch, {"logprobs"}, temperature)["logprobs"]
        logprobs += out.double().sum(1).tolist()
    return logprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedOptimum:
    """J* and what it rests on, averaged over prompts."""

    optimum: Optimum
    """Over the listed answers, the reference renormalised on them."""
    lower_bound: float
    """J* without renormalising: what the listed answers alone guarantee; an unlisted answer can only add to it."""


@torch.no_grad()
def listed_optimum(
    reference: Trunk,
    language: Language,
    scorer: Scorer,
    rows: Sequence[PromptRow],
    list_answers: Callable[[str], list[str]],
    *,
    kl_coef: float,
    temperature: float,
    max_new_tokens: int,
    machine: Machine,
    budget: int = 16384,
) -> ListedOptimum:
    """Enumerate: log π_ref(y | x) and r(x, y) of every listed answer, J* = β log Σ_y π_ref e^{r/β} per prompt.

    An answer's probability is that of its canonical tokens and the end token; other spellings of the same text are
    not counted, nor are answers of more than `max_new_tokens`, which a policy can't finish. That only lowers the bound.
    Raises: UserError where none of a prompt's listed answers is left, or the judge abstains.
    """
    renderer, groups = language.renderer, list[Group]()
    for row in rows:
        listed = [(a, renderer.response_ids(a, end=True, form=row.prompt.form)) for a in list_answers(row.prompt.text)]
        finishable = [(answer, tuple(ids)) for answer, ids in listed if len(ids) <= max_new_tokens]
        if not finishable:
            none = f"none of its {len(listed)} listed answers has at most {max_new_tokens} tokens"
            raise UserError(f"{row.where}: {none}")
        answers, responses = zip(*finishable, strict=True)
        groups.append(Group(prompt=row.prompt, responses=answers, response_ids=responses, columns=row.columns))

    def logprobs(i: int) -> list[float]:
        prompt_ids = renderer.prompt_ids(rows[i].prompt, where=rows[i].where)
        return answer_logprobs(reference, prompt_ids, groups[i].response_ids, temperature, machine, budget)

    machine.ranks.check_same("the listed answers", [list(group.responses) for group in groups])
    mine = machine.ranks.share(len(group.responses) for group in groups)
    nats = machine.ranks.gather_rows({i: logprobs(i) for i in mine})
    optima = [
        kl_regularised_optimum(nats[i], scores, kl_coef) for i, scores in enumerate(_scores(scorer, groups, rows))
    ]
    bounds = [one.objective + kl_coef * torch.tensor(one.mass, dtype=torch.float64).log().item() for one in optima]
    return ListedOptimum(optimum=mean_optimum(optima), lower_bound=sum(bounds) / len(bounds))


def _scores(scorer: Scorer, groups: Sequence[Group], rows: Sequence[PromptRow]) -> list[list[float]]:
    """Of each row's listed answers."""
    judged = check_scores(scorer.name, scorer.score(groups), num_responses(groups))
    sizes = [len(group.responses) for group in groups]
    for row, valid in zip(rows, judged.valid.split(sizes), strict=True):
        if not valid.all():
            raise UserError(f"{row.where}: the judge abstained on a listed answer, so the optimum is not defined")
    return [scores.tolist() for scores in judged.scores.split(sizes)]
