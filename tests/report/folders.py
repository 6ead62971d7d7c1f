"""Writes run folders such as the other rooms leave behind: whole, killed half-way, empty, a pipeline of them."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from plaudit.records.results import Result

HOSTILE = '</script><img src=x onerror="alert(1)"><!-- \'"&amp; ]]> {{ 7*7 }} <a href="https://evil.example/">x</a>'
CHINESE = "请问“你好”怎么说？👩‍🔬🎉 naïve 𝔘𝔫𝔦"

PROVENANCE = {
    "stage": "ppo",
    "started": "2025-06-01T10:20:30+00:00",
    "command": ["plaudit", "ppo", "configs/ppo.yaml", "--name", "a b"],
    "python": "3.12.1",
    "platform": "Linux-6.1",
    "cpus": 2,
    "versions": {"plaudit": "0.1.0", "torch": "2.13.0", "transformers": "5.16.1"},
    "commit": "abc123",
    "data": {"prompts.jsonl": "f00d"},
}


def write_run(
    folder: Path,
    stage: str,
    *,
    config: Mapping[str, Any] | None = None,
    lines: Iterable[Mapping[str, Any]] = (),
    rollouts: Mapping[int, Sequence[Mapping[str, Any]]] | None = None,
    samples: Sequence[Mapping[str, Any]] = (),
    summary: Mapping[str, Any] | None = None,
) -> Path:
    """A run folder; no summary means that the run was killed."""
    folder.mkdir(parents=True)
    text = yaml.safe_dump(dict(config or {"seed": 1}), sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({**PROVENANCE, "stage": stage}), encoding="utf-8")
    if lines:
        (folder / "metrics.jsonl").write_text(as_lines(lines), encoding="utf-8")
    for iteration, rows in (rollouts or {}).items():
        path = folder / "rollouts" / f"{iteration:06d}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(as_lines(rows).encode("utf-8"), mtime=0))
    if samples:
        (folder / "samples.jsonl").write_text(as_lines(samples), encoding="utf-8")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def as_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def ppo_lines(count: int = 60, *, seed: int = 0, lift: float = 1.0) -> list[dict[str, float]]:
    """Curves as a PPO run has them: score and KL rise together."""
    noise = random.Random(seed)
    lines = []
    for step in range(1, count + 1):
        way = (step - 1) / max(1, count - 1)
        kl = 9 * way + noise.gauss(0, 0.15) if step > 1 else 0.0
        score = lift * 2.2 * (1 - math.exp(-3 * way)) + noise.gauss(0, 0.12)
        line = {"step": step, "time": 1.5 * step}
        line |= {
            "ppo/score_over_responses": score,
            "ppo/objective_over_responses": score - 0.1 * kl,
            "ppo/kl_ref_over_responses": kl,
            "ppo/length_over_responses": 18 + 6 * way + noise.gauss(0, 0.6),
            "ppo/eos_over_responses": min(1.0, 0.8 + 0.2 * way + noise.gauss(0, 0.01)),
            "ppo/entropy_over_tokens": 2.1 - 0.9 * way,
            "ppo/clip_fraction_over_tokens": 0.05 + 0.05 * noise.random(),
            "ppo/value_clip_fraction_over_tokens": 0.02 + 0.02 * noise.random(),
            "ppo/approx_kl_old_over_tokens": 0.01 + 0.004 * noise.random(),
            "ppo/explained_variance": 0.8 * (1 - math.exp(-5 * way)) + noise.gauss(0, 0.03),
            "ppo/value_over_tokens": score * 0.7,
            "ppo/return_over_tokens": score * 0.72,
            "ppo/part/repetition_over_responses": -0.1 * way,
            "ppo/policy_loss_over_tokens": -0.02 + noise.gauss(0, 0.004),
            "ppo/value_loss_over_tokens": 0.5 * math.exp(-3 * way),
            "ppo/learning_rate": 1e-5 * (1 - way),
            "ppo/grad_norm": 0.8 + 0.2 * noise.random(),
            "ppo/tokens_over_seconds": 2400 + noise.gauss(0, 60),
            "ppo/seconds_sample": 0.8,
            "ppo/seconds_update": 0.5,
        }
        lines.append(line)
    return lines


def sft_lines(count: int = 400, *, seed: int = 0) -> list[dict[str, float]]:
    noise = random.Random(seed)
    lines = []
    for step in range(count):
        loss = 1.3 + 3.5 * math.exp(-step / (count / 7)) + noise.gauss(0, 0.12)
        line = {"step": step, "time": 0.1 * step, "sft/loss_over_tokens": loss, "sft/learning_rate": 1e-3}
        if step % 50 == 0:
            line["sft/held_out_loss_over_tokens"] = loss + 0.05
            line["sft/held_out_perplexity"] = math.exp(loss + 0.05)
            line["sft/held_out_nll_over_answers"] = 5.3 * (loss + 0.05)
        lines.append(line)
    return lines


def reward_lines(count: int = 90, *, seed: int = 0) -> list[dict[str, float]]:
    noise = random.Random(seed)
    lines = []
    for step in range(count):
        way = 1 - math.exp(-4 * step / count)
        line = {
            "step": step,
            "time": 0.2 * step,
            "reward/loss_over_rows": 0.69 - 0.2 * way + noise.gauss(0, 0.02),
            "reward/accuracy_over_pairs": 0.5 + 0.27 * way + noise.gauss(0, 0.02),
            "reward/margin_over_pairs": 1.1 * way,
        }
        if step % 15 == 0:
            line["reward/held_out_loss_over_prompts"] = 0.7 - 0.18 * way
            line["reward/held_out_accuracy_over_pairs"] = 0.5 + 0.24 * way
        lines.append(line)
    return lines


def rollout_rows(count: int = 40, *, mean: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    noise = random.Random(seed)
    return [
        {
            "prompt": f"Tell me about item {index}. {CHINESE}",
            "prompt_id": f"{index:016x}",
            "response": f"Item {index} is {'round and very ' * (index % 4)}blue.",
            "score": mean + noise.gauss(0, 1),
            "parts": {"judge": 0.1},
            "kl": noise.gauss(3, 1),
            "length": 10 + index % 7,
            "finish_reason": "eos" if index % 5 else "length",
        }
        for index in range(count)
    ]


def token_row(text: str, *, score: float | None, beta: float = 0.1, hostile: str = "", **more: Any) -> dict[str, Any]:
    """A rollout with numbers by token: one letter a token, then the end token. KL is ½ on each, V falls."""
    pieces = [*text, *([hostile] if hostile else []), "</s>"]
    n = len(pieces)
    kls, end = [0.5] * n, 0.0 if score is None else score
    rewards = [-beta * kl for kl in kls]
    rewards[-1] += end
    tokens: dict[str, list[Any]] = {"text": pieces, "id": list(range(3, 3 + n))}
    tokens |= {"logprob": [-0.5 - i for i in range(n)], "ref_logprob": [-1.0 - i for i in range(n)], "kl": kls}
    tokens |= {"entropy": [1.5] * n, "value": [1.0 / (1 + i) for i in range(n)], "reward": rewards}
    tokens |= {"advantage": [(-1.0) ** i * i / n for i in range(n)], "return": [sum(rewards[i:]) for i in range(n)]}
    if score is None:
        tokens |= {name: [None] * n for name in ("reward", "advantage", "return")}
    row = {
        "prompt": f"Spell {text}",
        "prompt_id": f"{len(text):016x}",
        "response": text + hostile,
        "score": score,
        "parts": {"judge": score},
        "kl": sum(kls),
        "reward": None if score is None else sum(rewards),
        "kl_coef": beta,
        "length": n,
        "finish_reason": "eos",
        "tokens": tokens,
    }
    return {**row, **more}


def sample_rows(count: int = 120, *, seed: int = 0) -> list[dict[str, Any]]:
    noise = random.Random(seed)
    rows = []
    for index in range(count):
        before, after = noise.gauss(0, 1), noise.gauss(1.2, 0.9)
        rows.append(
            {
                "policy": "ppo",
                "prompt": f"Describe the garden in picture {index}. {CHINESE if index % 3 == 0 else ''}",
                "before": "the garden the garden has " + "a small tree " * (index % 5),
                "after": "In the garden a small bird sits on the old wall; the sun is warm. " * (1 + index % 3),
                "score_before": before,
                "score_after": after,
                "kl": noise.gauss(6, 1.5),
                "finish_before": "length" if index % 4 == 0 else "eos",
                "finish_after": "eos",
            }
        )
    return rows


def results() -> list[dict[str, Any]]:
    """Results as the stages write them, in a pipeline's own list."""
    made = [
        Result(stage="sft", measure="held_out_nll_over_answers", subject="SFT", value=7.37, low=7.25, high=7.49,
               floor=29.1, ceiling=6.92),
        Result(stage="reward", measure="expected_accuracy_over_pairs", subject="reward model", value=0.741, floor=0.5,
               ceiling=0.783),
        Result(stage="reward", measure="held_out_accuracy_over_pairs", subject="reward model", value=0.735, low=0.72,
               high=0.75, floor=0.5),
        Result(stage="reward", measure="held_out_accuracy_over_pairs", subject="longer wins", value=0.55, role="floor"),
        Result(stage="compare", measure="judge_score_over_prompts", subject="sft", value=0.41, low=0.36, high=0.46),
        Result(stage="compare", measure="judge_score_over_prompts", subject="ppo", value=1.62, low=1.55, high=1.69),
        Result(stage="compare", measure="kl_baseline_over_prompts", subject="ppo", value=6.5),
        Result(stage="compare", measure="win_rate_over_prompts", subject="ppo", against="sft", value=0.81, low=0.77,
               high=0.85, floor=0.5, ceiling=1.0, count=300, ties=4),
        Result(stage="compare", measure="objective_over_prompts", subject="ppo", value=1.36, floor=0.02, ceiling=1.83),
        Result(stage="compare", measure="progress_over_prompts", subject="ppo", value=0.74, low=0.69, high=0.79,
               floor=0.0, ceiling=1.0),
    ]  # fmt: skip
    return [result.to_plain() for result in made]


def summary(found: Sequence[Mapping[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """summary.json of a run with these results."""
    return {"format": 2, "results": list(found), **more}


def of_stage(stage: str) -> dict[str, Any]:
    """summary.json of one stage, which doesn't know its name in the pipeline."""
    return summary([{**result, "stage": ""} for result in results() if result["stage"] == stage])


def write_pipeline(folder: Path, *, seed: int = 0, finished: bool = True) -> Path:
    """world, sft, reward, ppo, compare; unfinished: killed in the middle of ppo."""
    folder.mkdir(parents=True)
    config = {"seed": seed, "model": {"path": "tiny", "hidden": 128}, "note": CHINESE}
    config["stages"] = {name: {"kind": name} for name in ("world", "sft", "reward", "ppo", "compare")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({**PROVENANCE, "stage": "pipeline"}), encoding="utf-8")
    world = write_run(folder / "01-world", "world", summary=summary())
    sft = {"seed": seed, "held_out": [{"path": str(world / "held_out_demonstrations.jsonl")}]}
    write_run(folder / "02-sft", "sft", config=sft, lines=sft_lines(seed=seed), summary=of_stage("sft"))
    reward = {**of_stage("reward"), "reward": {"bias": 0.25}}
    write_run(folder / "03-reward", "reward", lines=reward_lines(seed=seed), summary=reward)
    rollouts = {1: rollout_rows(seed=seed), 31: rollout_rows(mean=0.7, seed=seed + 1)}
    ppo = {"seed": seed, "kl": {"coef": 0.1}, "lr": 1e-5, "prompts_per_iteration": 4, "samples_per_prompt": 2}
    lines = ppo_lines(60 if finished else 31, seed=seed)
    end = summary() if finished else None
    write_run(folder / "04-ppo", "ppo", config=ppo, lines=lines, rollouts=rollouts, summary=end)
    if finished:
        policies = {"sft": str(folder / "02-sft" / "model"), "ppo": str(folder / "04-ppo" / "model")}
        compare = {"seed": seed, "policies": policies}
        samples, found = sample_rows(seed=seed), of_stage("compare")
        write_run(folder / "05-compare", "compare", config=compare, samples=samples, summary=found)
        whole = summary(results(), seconds=251.0, peak_memory_bytes=1_400_000_000, seed=seed)
        (folder / "summary.json").write_text(json.dumps(whole), encoding="utf-8")
    return folder
