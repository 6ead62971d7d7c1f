"""Answers to learn preferences from (N2): the model gives K answers to each prompt, a labeller ranks them."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from plaudit.data.formats import competition_ranks
from plaudit.engines.build import build_engine
from plaudit.hardware.machine import machine
from plaudit.hardware.randomness import generator
from plaudit.models.load import load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.text import Kind, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups_of, sample
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards
from plaudit.telemetry.console import say
from plaudit.training import state
from plaudit.training.options import CollectConfig

RANKINGS = "rankings.jsonl"


def collect(config: CollectConfig, run: Run) -> None:
    """Write rankings.jsonl into the run folder: rows {prompt, responses, ranks}; equal answers share a rank (N2.1).

    Answers on which the labeller abstains are left out, and with them prompts that keep fewer than two.
    """
    rows = [row for rows in state.load_data(run, config.prompts, Kind.PROMPT) for row in rows]
    check_rewards(config.labeller, rows, option="labeller", lone=())
    language = load_language(config.model)
    check_prompts(rows, language, config.sampling.max_new_tokens)
    place = machine(config.device)
    trunk = Trunk(load_causal(config.model, language, seed=config.seed).hf).to(place.device)
    engine = build_engine(trunk, language, check_stop=run.check_stop)
    scorer = build_scorer(config.labeller, place)
    rankings: list[dict[str, Any]] = []
    per_batch = max(1, config.sampling.batch_size // config.samples)
    with run.progress(len(rows)) as progress:
        for begin in range(0, len(rows), per_batch):
            run.check_stop()
            part = [row for row in rows[begin : begin + per_batch] for _ in range(config.samples)]
            indices = [k for _ in rows[begin : begin + per_batch] for k in range(config.samples)]
            with place.autocast():
                rollout = sample(engine, language, part, config.sampling, sample_indices=indices, seed=config.seed)
            said = scorer.score(groups_of(rollout, config.samples)).optional_scores
            for i, row in enumerate(rows[begin : begin + per_batch]):
                mine = range(i * config.samples, (i + 1) * config.samples)
                kept = [(rollout.responses[j], said[j]) for j in mine if said[j] is not None]
                if len(kept) > 1:
                    rankings.append(_ranking(row, [text for text, _ in kept], [score for _, score in kept], config))
            progress.update(min(begin + per_batch, len(rows)), {})
    if len(rankings) < len(rows):
        say(f"{len(rows) - len(rankings)} prompts left out: the labeller judged fewer than two of their answers")
    run.write_rows(RANKINGS, rankings)
    run.finish({"stages": [], "rankings": len(rankings)})


def _ranking(
    row: PromptRow, responses: Sequence[str], scores: Sequence[float], config: CollectConfig
) -> dict[str, Any]:
    # A model may write anything, NUL too, which no data file may hold.
    responses = [text.replace("\0", "\ufffd") for text in responses]
    noise = gumbel(len(set(responses)), config.seed, row.prompt.id)
    said = {
        text: scores[responses.index(text)] + config.noise * n
        for text, n in zip(sorted(set(responses)), noise, strict=True)
    }
    ranks = competition_ranks([-said[text] for text in responses])
    prompt = (
        [{"role": m.role, "content": m.content} for m in row.prompt.turns]
        if row.prompt.form.value == "chat"
        else row.prompt.text
    )
    fact = {"prompt": prompt, "responses": list(responses), "ranks": list(ranks)}
    if row.prompt.form.value == "rendered":
        fact["prompt_rendered"] = True
    return fact


def gumbel(n: int, seed: int, prompt_id: str) -> list[float]:
    """n draws of the standard Gumbel distribution, a function of seed and prompt: adding them to utilities and sorting
    gives Plackett–Luce rankings (Yellott 1977)."""
    uniform = torch.rand(n, generator=generator(seed, "labeller", prompt_id), dtype=torch.float64)
    return [-math.log(-math.log(max(u, 1e-300))) for u in uniform.tolist()]
