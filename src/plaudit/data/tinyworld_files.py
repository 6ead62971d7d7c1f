"""The tiny world on disk: its files, and the ceilings that the tables of `tinyworld` imply, exactly."""

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from plaudit.data.tinyworld import (
    ANIMALS,
    NAMES,
    TROUBLES,
    Case,
    all_prompts,
    all_slots,
    answers,
    demo_entropy,
    demo_logprob,
    demonstrate,
    demonstrator,
    pair_probability,
    read_prompt,
    true_reward,
)
from plaudit.data.tinyworld_text import texts as running_text
from plaudit.errors import UserError
from plaudit.formulas.optimum import Optimum, kl_regularised_optimum, mean_optimum
from plaudit.runs.folder import Run
from plaudit.telemetry.summary import summary

# --- the demonstrator's ceilings, exactly ----------------------------------------------------------------------------


@lru_cache(maxsize=len(TROUBLES))
def _score_distribution(trouble: str) -> dict[float, float]:
    prompt = _example(trouble)
    table, listed = demonstrator(prompt), answers(prompt)
    total: dict[float, float] = {}
    rewards = true_reward([prompt] * len(listed), listed)
    for slots, reward in zip(all_slots(read_prompt(prompt)), rewards, strict=True):
        probability = math.prod(p[getattr(slots, slot)] for slot, p in table.items())
        total[round(reward, 9)] = total.get(round(reward, 9), 0.0) + probability
    return total


def _example(trouble: str) -> str:
    """Names, animals and phrasings change the words of an answer, never its worth: one prompt stands for a trouble."""
    return Case(name=NAMES[0], animal=ANIMALS[0], trouble=trouble, phrasing=0).prompt


def ceilings(prompts: Sequence[str], kl_coefs: Sequence[float] = (0.3, 0.4, 0.5)) -> dict[str, Any]:
    """What is known of the demonstrator's answers to these prompts, exactly, each the mean over the prompts.

    entropy_per_answer (nats: the floor of SFT), score_mean, score_std (within a prompt), score_best, bayes_accuracy
    (of two independent answers to one prompt: the ceiling of the reward model), and, with the demonstrator as the
    reference, `optimum` by KL coefficient (the ceiling of PPO). UserError without prompts.
    """
    if not prompts:
        raise UserError("the tiny world's ceilings need at least one prompt")
    counts: dict[str, int] = {}
    for prompt in prompts:
        trouble = read_prompt(prompt).trouble
        counts[trouble] = counts.get(trouble, 0) + 1
    facts = {trouble: _facts(trouble) for trouble in counts}
    average = {
        name: math.fsum(facts[trouble][name] * n for trouble, n in counts.items()) / len(prompts)
        for name in facts[next(iter(facts))]
    }
    optima = {}
    for kl_coef in kl_coefs:
        by_trouble = {trouble: _demonstrator_optimum(trouble, kl_coef) for trouble in counts}
        mean = mean_optimum([by_trouble[trouble] for trouble, n in counts.items() for _ in range(n)])
        optima[str(kl_coef)] = asdict(mean) | {"gain": mean.gain}
    return average | {"optimum": optima}


def _facts(trouble: str) -> dict[str, float]:
    distribution = _score_distribution(trouble)
    mean = math.fsum(p * r for r, p in distribution.items())
    pairs = itertools.product(distribution.items(), repeat=2)
    return {
        "entropy_per_answer": demo_entropy(_example(trouble)),
        "score_mean": mean,
        "score_std": math.sqrt(math.fsum(p * (r - mean) ** 2 for r, p in distribution.items())),
        "score_best": max(distribution),
        "bayes_accuracy": math.fsum(p * q * pair_probability(max(r, s), min(r, s)) for (r, p), (s, q) in pairs),
    }


def _demonstrator_optimum(trouble: str, kl_coef: float) -> Optimum:
    distribution = _score_distribution(trouble)
    return kl_regularised_optimum([math.log(p) for p in distribution.values()], list(distribution), kl_coef)


# --- files -----------------------------------------------------------------------------------------------------------

FILES = {
    "demonstrations": "demonstrations.jsonl",
    "preference_prompts": "preference_prompts.jsonl",
    "ppo_prompts": "ppo_prompts.jsonl",
    "held_out_prompts": "held_out_prompts.jsonl",
    "held_out_demonstrations": "held_out_demonstrations.jsonl",
}
"""What `write_world` writes, beside world.json."""
TEXT_FILES = {"texts": "texts.jsonl", "held_out_texts": "held_out_texts.jsonl"}
"""And these, where running text is wanted."""


def write_world(
    folder: str | Path,
    *,
    seed: int,
    demonstrations: int = 6000,
    preference_prompts: int = 2400,
    ppo_prompts: int = 900,
    held_out: int = 300,
    texts: int = 0,
    answered_share: float = 0.05,
) -> dict[str, Any]:
    """Write the world's FILES and world.json into `folder` (made if need be), and return what world.json says.

    demonstrations: rows `{"prompt", "completion"}` on training prompts (all of them once before any comes again).
    preference_prompts, ppo_prompts: rows `{"prompt"}`, training prompts, disjoint from each other. held_out: rows
    `{"prompt"}` on prompts that no other file has, and one demonstration of each for reference. texts: rows `{"text"}`
    of running text (`tinyworld_text`), as many held out as prompts; none of 0.
    world.json: seed, sizes, files, and the `ceilings` on the held-out prompts; `demonstrator_nll` is the
    demonstrator's own negative log-likelihood per answer of the held-out demonstrations: the floor on that very file.
    The same arguments write the same bytes. UserError if the world has fewer prompts than asked for.
    """
    sizes = {"demonstrations": demonstrations, "held_out": held_out}
    sizes |= {"preference_prompts": preference_prompts, "ppo_prompts": ppo_prompts}
    prompts = _split_prompts(sizes, seed)
    train = prompts["train"]
    answered = [train[i % len(train)] for i in range(demonstrations)]
    rows = {
        "demonstrations": _demonstration_rows(answered, _stream(seed, "demonstrations")),
        "held_out_demonstrations": _demonstration_rows(prompts["held_out_prompts"], _stream(seed, "held out")),
    }
    for name in ("preference_prompts", "ppo_prompts", "held_out_prompts"):
        rows[name] = [{"prompt": prompt} for prompt in prompts[name]]
    files = FILES | (TEXT_FILES if texts else {})
    if texts:
        train, share = sorted(prompts["train"]), answered_share
        rows["texts"] = _text_rows(texts, train, share, _stream(seed, "texts"))
        rows["held_out_texts"] = _text_rows(held_out, train, share, _stream(seed, "held out texts"))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows[name])
        (folder / file).write_text("".join(lines), encoding="utf-8", newline="\n")
    world = _world_facts(sizes | ({"texts": texts} if texts else {}), files, seed, rows)
    text = json.dumps(world, indent=2, ensure_ascii=False) + "\n"
    (folder / "world.json").write_text(text, encoding="utf-8", newline="\n")
    return world


def _stream(seed: int, name: str) -> random.Random:
    """One generator a file, so that the size of one file doesn't change the rows of another."""
    return random.Random(f"{seed}/{name}")


def _split_prompts(sizes: Mapping[str, int], seed: int) -> dict[str, list[str]]:
    for name, size in sizes.items():
        if size < 0:
            raise UserError(f"the tiny world's {name} is {size}; give 0 or more")
    if sizes["held_out"] < 1:
        raise UserError("the tiny world's held_out is 0; its ceilings need at least 1 held-out prompt")
    prompts = list(all_prompts())
    wanted = sizes["held_out"] + sizes["preference_prompts"] + sizes["ppo_prompts"]
    if wanted > len(prompts) or sizes["held_out"] == len(prompts):
        raise UserError(
            f"the tiny world has {len(prompts)} prompts; held_out + preference_prompts + ppo_prompts = {wanted} must "
            "be no more, and held_out must leave some for training"
        )
    _stream(seed, "prompts").shuffle(prompts)
    held_out, train = prompts[: sizes["held_out"]], prompts[sizes["held_out"] :]
    preference = train[: sizes["preference_prompts"]]
    ppo = train[len(preference) : len(preference) + sizes["ppo_prompts"]]
    _stream(seed, "demonstrated prompts").shuffle(train)
    return {"train": train, "held_out_prompts": held_out, "preference_prompts": preference, "ppo_prompts": ppo}


def _demonstration_rows(prompts: Sequence[str], rng: random.Random) -> list[dict[str, str]]:
    return [{"prompt": prompt, "completion": demonstrate(prompt, rng)} for prompt in prompts]


def _text_rows(count: int, questions: list[str], answered_share: float, rng: random.Random) -> list[dict[str, str]]:
    return [{"text": text} for text in running_text(count, questions, answered_share, rng)]


def _world_facts(
    sizes: Mapping[str, int], files: Mapping[str, str], seed: int, rows: Mapping[str, list[dict[str, str]]]
) -> dict[str, Any]:
    held_out = rows["held_out_demonstrations"]
    nll = [-demo_logprob(row["prompt"], row["completion"]) for row in held_out]
    return {
        "seed": seed,
        "sizes": dict(sizes),
        "files": dict(files),
        "reward": "plaudit.data.tinyworld:true_reward",
        "prompts": len(all_prompts()),
        "answers_per_prompt": len(answers(held_out[0]["prompt"])),
        "demonstrator_nll": math.fsum(nll) / len(nll),
        **ceilings([row["prompt"] for row in held_out]),
    }


# --- the stage of a pipeline ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """The tiny world's files: demonstrations, prompts, held-out prompts (docs/tiny-world.md)."""

    seed: int = 0
    """Of every row."""
    demonstrations: int = 6000
    """Rows to fine-tune on."""
    preference_prompts: int = 2400
    """Prompts whose answers are ranked."""
    ppo_prompts: int = 900
    """Prompts that PPO practises on."""
    held_out: int = 300
    """Prompts that nothing is trained on."""
    texts: int = 0
    """Documents of running text to pre-train on; 0: none."""
    answered_share: float = 0.05
    """Share of these that are questions with answers."""


def world(config: WorldConfig, run: Run) -> None:
    """Write the world's files into the run folder; world.json holds its ceilings."""
    write_world(run.folder, **asdict(config))
    run.finish(summary())
