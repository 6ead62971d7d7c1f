"""The best that PPO can do, where a prompt's answers can be listed (DESIGN §7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from plaudit.engines.device import Machine
from plaudit.formulas.optimum import Optimum, kl_regularised_optimum, mean_optimum
from plaudit.models.load import Language
from plaudit.models.trunk import Trunk
from plaudit.records.text import Group, Prompt
from plaudit.scoring.protocol import Scorer
from plaudit.tokens.batches import by_token_budget, pack


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
    prompts: Sequence[Prompt],
    list_answers: Callable[[str], list[str]],
    *,
    kl_coef: float,
    temperature: float,
    place: Machine,
    budget: int = 16384,
) -> ListedOptimum:
    """Enumerate: log π_ref(y | x) and r(x, y) of every listed answer, J* = β log Σ_y π_ref e^{r/β} per prompt.

    An answer's probability is that of its canonical tokens and the end token; other spellings of the same text are
    not counted, which only lowers the bound.
    """
    optima, bounds = [], []
    for prompt in prompts:
        answers = list_answers(prompt.text)
        prompt_ids = language.renderer.prompt_ids(prompt)
        responses = [language.renderer.response_ids(a, end=True) for a in answers]
        logprobs = [0.0] * len(answers)
        for cut in by_token_budget((len(prompt_ids) + len(r) for r in responses), budget):
            batch = pack([prompt_ids] * len(cut), [responses[i] for i in cut]).to(place.device)
            with place.autocast():
                out = reference(batch, {"logprobs"}, temperature)["logprobs"]
            for i, value in zip(cut, out.double().sum(1).tolist(), strict=True):
                logprobs[i] = value
        scores = scorer.score([Group(prompt=prompt, responses=tuple(answers))]).scores.tolist()
        optimum = kl_regularised_optimum(logprobs, scores, kl_coef)
        optima.append(optimum)
        bounds.append(optimum.objective + kl_coef * torch.tensor(optimum.mass, dtype=torch.float64).log().item())
    return ListedOptimum(optimum=mean_optimum(optima), lower_bound=sum(bounds) / len(bounds))
