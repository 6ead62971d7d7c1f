"""Answers to learn preferences from (N2): the model gives K answers to each prompt, for a labeller to rank."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from plaudit.data.formats import competition_ranks
from plaudit.engines.build import build_engine, check_engine
from plaudit.engines.protocol import Engine
from plaudit.files import write_json
from plaudit.formulas.pair_scores import mean_pair_entropy
from plaudit.hardware.machine import Machine, machine_of
from plaudit.hardware.randomness import generator, permutation
from plaudit.models.load import Language, Loaded, load_causal, load_language
from plaudit.models.trunk import Trunk
from plaudit.records.text import Group, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, sample, shown_ids
from plaudit.rollouts.shots import Shots, load_shots
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer, check_rewards, function_files, say_unread_columns
from plaudit.scoring.protocol import Scorer
from plaudit.telemetry.console import say, warn
from plaudit.telemetry.summary import summary
from plaudit.training import state
from plaudit.training.options import CollectConfig, UnsureConfig

RANKINGS = "rankings.jsonl"
CANDIDATES = "candidates.jsonl"
UNSURE = "unsure"
"""Column: the mean entropy of the pairs' probabilities, bits."""
RANKED = "ranked.json"
"""In a checkpoint: how many prompts are done, and their rankings."""
SAVE_EVERY = 10
"""Batches of answers between checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """Who answers what, who ranks the answers, and who says which are worth it."""

    prompts: tuple[PromptRow, ...]
    language: Language
    engine: Engine
    labeller: Scorer | None
    unsure: Scorer | None
    """Whose doubts choose the prompts."""
    machine: Machine
    shots: Shots | None = None
    """What the model sees before every prompt."""


def collect(config: CollectConfig, run: Run) -> None:
    """Answer and rank what the config names; see `gather`."""
    gather(participants(config, run), config, run)


def participants(config: CollectConfig, run: Run, *, policy: Loaded | None = None) -> Participants:
    """Read data, then load models. `policy` answers instead of the model that `config.model.path` names.

    Raises: UserError.
    """
    prompts = tuple(row for rows in state.load_data(run, config.prompts, PromptRow) for row in rows)
    doubting = config.unsure.judge if config.unsure else ()
    for option, judges in (("labeller", config.labeller), ("unsure.judge", doubting)):
        if judges:
            check_rewards(judges, prompts, option=option, lone=())
            run.check_data(function_files(judges))
            say_unread_columns(judges, prompts)
    language = policy.language if policy else load_language(config.model)
    own = config.shots
    shots = load_shots(own, prompts, language, run, "shots", seed=config.seed) if own else None
    if shots:
        run.add_provenance({"shots": shots.facts})
    prompts = tuple(check_prompts(prompts, language, config.sampling.max_new_tokens, config.too_long, shots))
    read = (shown_ids(row, language, shots) for row in prompts)
    check_engine(config.engine, language, read, config.sampling.max_new_tokens)
    here = machine_of(run, config.device)
    loaded = policy or load_causal(config.model, language, seed=config.seed)
    trunk = Trunk(loaded.hf).to(here.device)
    return Participants(
        prompts=prompts,
        language=language,
        engine=build_engine(trunk, language, config.engine, check_stop=run.check_stop, ranks=here.ranks),
        labeller=build_scorer(config.labeller, here, "labeller", run.check_stop) if config.labeller else None,
        unsure=build_scorer(doubting, here, "unsure.judge", run.check_stop) if doubting else None,
        machine=here,
        shots=shots,
    )


def gather(participants: Participants, config: CollectConfig, run: Run) -> None:
    """Write the run's rankings.jsonl: rows {prompt, responses, ranks}; equal answers share a rank (N2.1). Without a
    labeller, candidates.jsonl: rows {prompt, responses: [{text, model, sampling}]}, each answer once.

    Answers on which the labeller abstains are left out, and with them prompts that keep fewer than two. What is done is
    saved now and then and at a stop, and a resumed run goes on from there.
    """
    prompts, latest = participants.prompts, run.latest()
    saved = json.loads((latest / RANKED).read_text(encoding="utf-8")) if latest else {"prompts": 0, "rankings": []}
    rows, done = list(saved["rankings"]), int(saved["prompts"])
    per_batch = max(1, config.sampling.batch_size // config.samples)

    def save() -> None:
        with run.checkpoint(done) as folder:
            write_json(folder / RANKED, {"prompts": done, "rankings": rows})

    ranks = participants.machine.ranks
    with state.saved_on_stop(save, run, ranks), run.progress(len(prompts), start=done) as progress:
        while done < len(prompts):
            run.check_stop()
            part = prompts[done : done + per_batch]
            rows += _answered(participants, config, part)
            done += len(part)
            progress.update(done, {})
            if run.saves and done % (per_batch * SAVE_EVERY) == 0:
                save()
    if len(rows) < len(prompts):
        why = "the labeller judged fewer than two of their answers" if config.labeller else "all answers are the same"
        say(f"{len(prompts) - len(rows)} prompts left out: {why}")
    if config.unsure is not None:
        rows = least_sure(rows, config.unsure, config.seed)
        say(f"{len(rows)} prompts chosen, {sum(row['chosen_by'] == 'doubt' for row in rows)} where the judge is unsure")
    if config.labeller and rows and (tied := sum(len(set(row["ranks"])) == 1 for row in rows)) == len(rows):
        warn(f"{tied} of {len(rows)} rankings are all ties: nothing to learn. Another labeller may tell them apart")
    run.write_rows(RANKINGS if config.labeller else CANDIDATES, rows)
    run.finish(summary(rankings=len(rows)) if config.labeller else summary(candidates=len(rows)))


def _answered(participants: Participants, config: CollectConfig, prompts: Sequence[PromptRow]) -> list[dict[str, Any]]:
    """K answers to each prompt by one call of the engine; a data row for each prompt that gives one."""
    k = config.samples
    rows = [row for row in prompts for _ in range(k)]
    indices = [index for _ in prompts for index in range(k)]
    with participants.machine.autocast():
        rollout = sample(
            participants.engine,
            participants.language,
            rows,
            config.sampling,
            sample_indices=indices,
            seed=config.seed,
            shots=participants.shots,
        )
    answered = groups(rollout, k)
    scores = _scores(participants.labeller, answered, k)
    doubts = _scores(participants.unsure, answered, k)
    answered_rows: list[dict[str, Any]] = []
    for row, group, own, doubt in zip(prompts, answered, scores, doubts, strict=True):
        texts = sound(group.responses)
        one = _ranking(row, texts, own, config) if participants.labeller else _candidates(row, texts, config)
        if one is not None and participants.unsure is not None:
            one[UNSURE] = mean_pair_entropy(torch.tensor([x for x in doubt if x is not None], dtype=torch.float64))
        answered_rows += [one] if one is not None else []
    return answered_rows


def sound(texts: Sequence[str]) -> list[str]:
    """A model may write anything, NUL too, which no data file may hold."""
    return [text.replace("\0", "\ufffd") for text in texts]


def _scores(scorer: Scorer | None, answered: Sequence[Group], k: int) -> list[list[float | None]]:
    """A scorer's numbers, prompt by prompt."""
    if scorer is None:
        return [[None] * k for _ in answered]
    flat = scorer.score(answered).optional_scores
    return [list(flat[i : i + k]) for i in range(0, len(flat), k)]


def _ranking(
    row: PromptRow, texts: Sequence[str], scores: Sequence[float | None], config: CollectConfig
) -> dict[str, Any] | None:
    """The labeller's order of the answers on which it doesn't abstain; None for fewer than two."""
    judged = [(text, score) for text, score in zip(texts, scores, strict=True) if score is not None]
    if len(judged) < 2:
        return None
    first = dict(reversed(judged))
    different = zip(sorted(first), gumbel(len(first), config.seed, row.prompt.id), strict=True)
    utilities = {text: first[text] + config.noise * n for text, n in different}
    responses = [text for text, _ in judged]
    ranks = competition_ranks([-utilities[text] for text in responses])
    return {**row.prompt.to_columns(), "responses": responses, "ranks": list(ranks)}


def _candidates(row: PromptRow, texts: Sequence[str], config: CollectConfig) -> dict[str, Any] | None:
    """The different answers, for people to rank; None for fewer than two."""
    sampling = {"temperature": config.sampling.temperature, "seed": config.seed}
    responses = [{"text": text, "model": config.model.path, "sampling": sampling} for text in dict.fromkeys(texts)]
    return {**row.prompt.to_columns(), "responses": responses} if len(responses) > 1 else None


def least_sure(rows: Sequence[dict[str, Any]], unsure: UnsureConfig, seed: int) -> list[dict[str, Any]]:
    """The rows to be labelled, in their order, each with why it was chosen (column `chosen_by`): a random share, and of
    the rest those with the highest entropy."""
    count = min(unsure.prompts, len(rows))
    drawn = permutation(len(rows), seed, "unsure")[: round(unsure.random_share * count)]
    rest = sorted(set(range(len(rows))) - set(drawn), key=lambda i: (-rows[i][UNSURE], i))
    why = {**dict.fromkeys(drawn, "chance"), **dict.fromkeys(rest[: count - len(drawn)], "doubt")}
    return [{**rows[i], "chosen_by": why[i]} for i in sorted(why)]


def gumbel(n: int, seed: int, prompt_id: str) -> list[float]:
    """n draws of the standard Gumbel distribution, a function of seed and prompt: adding them to utilities and sorting
    gives Plackett–Luce rankings (Yellott 1977)."""
    uniform = torch.rand(n, generator=generator(seed, "labeller", prompt_id), dtype=torch.float64)
    return [-math.log(-math.log(max(u, 1e-300))) for u in uniform.tolist()]
