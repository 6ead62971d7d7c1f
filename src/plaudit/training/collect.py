"""Answers to learn preferences from (N2): the model gives K answers to each prompt, a labeller ranks them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from plaudit.data.formats import competition_ranks
from plaudit.engines.build import build_engine
from plaudit.engines.protocol import Engine
from plaudit.files import write_json
from plaudit.hardware.machine import Machine, machine
from plaudit.hardware.randomness import generator
from plaudit.models.load import Language, Loaded, load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.text import PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards, function_files, say_unread_columns
from plaudit.scoring.protocol import Scorer
from plaudit.telemetry.console import say, warn
from plaudit.telemetry.summary import summary
from plaudit.training import state
from plaudit.training.options import CollectConfig

RANKINGS = "rankings.jsonl"
RANKED = "ranked.json"
"""In a checkpoint: how many prompts are done, and their rankings."""
SAVE_EVERY = 10
"""Batches of answers between checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """Who answers what, and who ranks the answers."""

    prompts: tuple[PromptRow, ...]
    language: Language
    engine: Engine
    labeller: Scorer
    machine: Machine


def collect(config: CollectConfig, run: Run) -> None:
    """Answer and rank what the config names; see `gather`."""
    gather(participants(config, run), config, run)


def participants(config: CollectConfig, run: Run, *, policy: Loaded | None = None) -> Participants:
    """Read data, then load models. `policy` answers instead of the model that `config.model.path` names.

    Raises: UserError.
    """
    prompts = tuple(row for rows in state.load_data(run, config.prompts, PromptRow) for row in rows)
    check_rewards(config.labeller, prompts, option="labeller", lone=())
    run.check_data(function_files(config.labeller))
    say_unread_columns(config.labeller, prompts)
    language = policy.language if policy else load_language(config.model)
    prompts = tuple(check_prompts(prompts, language, config.sampling.max_new_tokens, config.too_long))
    here = machine(config.device)
    loaded = policy or load_causal(config.model, language, seed=config.seed)
    trunk = Trunk(loaded.hf).to(here.device)
    return Participants(
        prompts=prompts,
        language=language,
        engine=build_engine(trunk, language, config.engine, check_stop=run.check_stop),
        labeller=build_scorer(config.labeller, here, "labeller"),
        machine=here,
    )


def gather(participants: Participants, config: CollectConfig, run: Run) -> None:
    """Write the run's rankings.jsonl: rows {prompt, responses, ranks}; equal answers share a rank (N2.1).

    Answers on which the labeller abstains are left out, and with them prompts that keep fewer than two. What is done is
    saved now and then and at a stop, and a resumed run goes on from there.
    """
    prompts, latest = participants.prompts, run.latest()
    saved = json.loads((latest / RANKED).read_text(encoding="utf-8")) if latest else {"prompts": 0, "rankings": []}
    rankings, done = list(saved["rankings"]), int(saved["prompts"])
    per_batch = max(1, config.sampling.batch_size // config.samples)

    def save() -> None:
        with run.checkpoint(done) as folder:
            write_json(folder / RANKED, {"prompts": done, "rankings": rankings})

    with state.saved_on_stop(save, run), run.progress(len(prompts), start=done) as progress:
        while done < len(prompts):
            run.check_stop()
            part = prompts[done : done + per_batch]
            rankings += _rank(participants, config, part)
            done += len(part)
            progress.update(done, {})
            if run.saves and done % (per_batch * SAVE_EVERY) == 0:
                save()
    if len(rankings) < len(prompts):
        say(f"{len(prompts) - len(rankings)} prompts left out: the labeller judged fewer than two of their answers")
    if rankings and (tied := sum(len(set(row["ranks"])) == 1 for row in rankings)) == len(rankings):
        warn(f"{tied} of {len(rankings)} rankings are all ties: nothing to learn. Another labeller may tell them apart")
    run.write_rows(RANKINGS, rankings)
    run.finish(summary(rankings=len(rankings)))


def _rank(participants: Participants, config: CollectConfig, prompts: Sequence[PromptRow]) -> list[dict[str, Any]]:
    """K answers to each prompt by one call of the engine, judged by one call of the labeller."""
    k = config.samples
    rows = [row for row in prompts for _ in range(k)]
    indices = [index for _ in prompts for index in range(k)]
    with participants.machine.autocast():
        rollout = sample(
            participants.engine, participants.language, rows, config.sampling, sample_indices=indices, seed=config.seed
        )
    scores = participants.labeller.score(groups(rollout, k)).optional_scores
    ranked = []
    for i, row in enumerate(prompts):
        answers = zip(rollout.responses[i * k : (i + 1) * k], scores[i * k : (i + 1) * k], strict=True)
        judged = [(text, score) for text, score in answers if score is not None]
        if len(judged) > 1:
            ranked.append(_ranking(row, [text for text, _ in judged], [score for _, score in judged], config))
    return ranked


def _ranking(
    row: PromptRow, responses: Sequence[str], scores: Sequence[float], config: CollectConfig
) -> dict[str, Any]:
    # A model may write anything, NUL too, which no data file may hold.
    responses = [text.replace("\0", "\ufffd") for text in responses]
    noise = gumbel(len(set(responses)), config.seed, row.prompt.id)
    different = zip(sorted(set(responses)), noise, strict=True)
    utilities = {text: scores[responses.index(text)] + config.noise * n for text, n in different}
    ranks = competition_ranks([-utilities[text] for text in responses])
    chat = [turn.to_plain() for turn in row.prompt.turns]
    prompt = chat if row.prompt.form.value == "chat" else row.prompt.text
    ranking: dict[str, Any] = {"prompt": prompt, "responses": list(responses), "ranks": list(ranks)}
    if row.prompt.form.value == "rendered":
        ranking["prompt_rendered"] = True
    if row.prompt.tools:
        ranking["tools"] = list(row.prompt.tools)
    return ranking


def gumbel(n: int, seed: int, prompt_id: str) -> list[float]:
    """n draws of the standard Gumbel distribution, a function of seed and prompt: adding them to utilities and sorting
    gives Plackett–Luce rankings (Yellott 1977)."""
    uniform = torch.rand(n, generator=generator(seed, "labeller", prompt_id), dtype=torch.float64)
    return [-math.log(-math.log(max(u, 1e-300))) for u in uniform.tolist()]
