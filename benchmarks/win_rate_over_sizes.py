"""Win rate over sizes (Ouyang et al. 2022, figure 1) in the tiny world, by a known reward: one command.

    python -m benchmarks.win_rate_over_sizes --out runs/win-rate-over-sizes [--quick]

runs configs/figures/win_rate_over_sizes.yaml once a seed, or goes on with it; measures controls, ceiling and loss on
running text; writes docs/images/win_rate_over_sizes.{json,svg,png} and prints the tables of docs/figures.md.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.win_rate_figure import BASELINE, SIZES, figure, gathered, png
from benchmarks.win_rate_tables import filled, tables
from plaudit.cli import main as plaudit
from plaudit.config.load import load_config
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.tinyworld import answers, true_reward
from plaudit.engines.build import build_engine
from plaudit.evaluation.optimum import answer_logprobs
from plaudit.evaluation.options import CompareConfig
from plaudit.evaluation.perplexity import perplexity
from plaudit.files import write_json
from plaudit.hardware.machine import machine
from plaudit.models.load import Language, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.pipeline import PipelineConfig, plan
from plaudit.records.text import Kind, PromptRow
from plaudit.rollouts.sampler import sample
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics
from plaudit.tokens.encode import encode_texts

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "figures" / "win_rate_over_sizes.yaml"
PAGE = ROOT / "docs" / "figures.md"
IMAGES = ROOT / "docs" / "images"
MEASURED = "measured.json"
LISTED = {True: 8, False: 48}
"""Prompts whose answers are enumerated for the ceiling, in the quick form and in the full one."""
QUICK: Mapping[str, Mapping[str, object]] = {
    "world": {"texts": 2400, "demonstrations": 2000, "preference_prompts": 400, "ppo_prompts": 600},
    "pretrain-*": {"minibatch_size": 16, "evaluate_every": 10000},
    "sft-*": {"epochs": 1, "minibatch_size": 16, "evaluate_every": 10000},
    "answers": {"samples": 4},
    "held-out-answers": {"samples": 2},
    "reward": {"epochs": 2, "evaluate_every": 10000},
    "reward-control": {"evaluate_every": 10000},
    "ppo-*": {"iterations": 6, "prompts_per_iteration": 96, "optim.learning_rate": 3e-4},
    "ppo-ptx-*": {"ptx.rows": 8},
}
"""Stages (a pattern) → options of the quick form, which runs one seed."""


def options_of(quick: bool, seed: int) -> list[str]:
    """What the command line adds to the config."""
    options = ["--seed", str(seed)]
    if quick:
        names = load_config(PipelineConfig, CONFIG).stages
        for pattern, changes in QUICK.items():
            for name in names:
                if fnmatch(name, pattern):
                    options += [
                        part for key, value in changes.items() for part in (f"--stages.{name}.{key}", str(value))
                    ]
    return options


def run_pipeline(folder: Path, quick: bool, seed: int) -> None:
    """One seed's stages, or on with them."""
    new = ["pipeline", str(CONFIG), "--out", str(folder), *options_of(quick, seed)]
    if code := plaudit(["resume", str(folder)] if Run.exists(folder) else new):
        sys.exit(code)


# ------------------------------------------------------------------------------- what the pipeline doesn't measure


class Gauge:
    """Measures one seed's models on what nothing was trained on."""

    def __init__(self, pipeline: Path, quick: bool) -> None:
        self.stages = {
            stage.name: stage for stage in plan(load_config(PipelineConfig, pipeline / "config.yaml"), pipeline)
        }
        self.config: CompareConfig = self.stages["by-truth"].config
        self.language: Language = load_language(ModelConfig(path=self.config.policies[BASELINE]))
        self.here = machine(self.config.device)
        self.world, self.quick = self.stages["world"].folder, quick
        self.rows: list[PromptRow] = [*load(self.config.prompts[0], Kind.PROMPT).rows]
        self.prompts = [row.prompt.text for row in self.rows]
        samples = read_rows(self.stages["by-truth"].folder / "samples.jsonl")
        self.base = [row["score_before"] for row in samples[: len(self.rows)]]

    def trunk(self, policy: str) -> Trunk:
        causal = load_causal(ModelConfig(path=self.config.policies[policy]), self.language, seed=0)
        return Trunk(causal.hf).to(self.here.device)

    def text_losses(self) -> dict[str, list[float]]:
        """Nats of each held-out document of running text, and its tokens (`tokens`)."""
        rows = load(DataConfig(path=str(self.world / "held_out_texts.jsonl")), Kind.TEXT).rows
        renderer, context = self.language.decoder_renderer, self.language.context
        encoded = [encode_texts([row], renderer, max_length=context) for row in rows]
        windows = [window for document in encoded for window in document]
        owners = [index for index, document in enumerate(encoded) for _ in document]
        losses: dict[str, list[float]] = {"tokens": [float(sum(len(r) for _, r in document)) for document in encoded]}
        for policy in self.config.policies:
            if policy not in self.config.shots:
                totals = [0.0] * len(encoded)
                for owner, nats in zip(owners, perplexity(self.trunk(policy), windows, self.here).nll, strict=True):
                    totals[owner] += nats
                losses[policy] = totals
        return losses

    def again(self) -> dict[str, list[float]]:
        """The baseline's answers with other random numbers: true rewards and lengths."""
        engine = build_engine(self.trunk(BASELINE), self.language)
        indices, seed = [0] * len(self.rows), self.config.seed + 1
        rollout = sample(engine, self.language, self.rows, self.config.sampling, sample_indices=indices, seed=seed)
        return self._scored(rollout.responses)

    def random_answers(self) -> dict[str, list[float]]:
        """Any of the world's answers, all equally likely."""
        rng = random.Random("random answers")
        return self._scored([rng.choice(answers(prompt)) for prompt in self.prompts])

    def _scored(self, responses: Sequence[str]) -> dict[str, list[float]]:
        lengths = [float(len(self.language.renderer.response_ids(text, end=True))) for text in responses]
        return {"scores": true_reward(self.prompts, responses), "lengths": lengths}

    def ceiling(self, size: str, budget: float) -> dict[str, Any]:
        """J*'s policy: π* ∝ π_SFT e^{r/β} over the listed answers, r the true reward, with the β at which its KL is the
        budget; how often it wins against the baseline's answers, in expectation."""
        trunk, chosen = self.trunk(f"sft-{size}"), self.rows[: LISTED[self.quick]]
        logprobs, rewards = list[Tensor](), list[Tensor]()
        for row in chosen:
            listed, renderer = answers(row.prompt.text), self.language.renderer
            ids = [renderer.response_ids(text, end=True) for text in listed]
            prompt_ids = renderer.prompt_ids(row.prompt)
            nats = answer_logprobs(trunk, prompt_ids, ids, self.config.sampling.temperature, self.here)
            logprobs.append(torch.tensor(nats, dtype=torch.float64).log_softmax(0))
            rewards.append(torch.tensor(true_reward([row.prompt.text] * len(listed), listed), dtype=torch.float64))
        p, r = torch.stack(logprobs), torch.stack(rewards)
        best = at_kl(p, r, budget)
        base = torch.tensor(self.base[: len(chosen)], dtype=torch.float64).unsqueeze(1)
        wins = (r > base + 1e-9).double() + 0.5 * ((r - base).abs() <= 1e-9)
        return {
            "wins": (best * wins).sum(1).tolist(),
            "sigmoids": (best * (r - base).sigmoid()).sum(1).tolist(),
            "scores": (best * r).sum(1).tolist(),
        }


def at_kl(logprobs: Tensor, rewards: Tensor, budget: float) -> Tensor:
    """The policy ∝ e^{log p + r/β} [prompts, answers] whose KL to p, mean over prompts, is the budget: by bisection."""
    low, high = math.log(1e-2), math.log(1e2)  # of β: the lower, the farther from p
    for _ in range(60):
        middle = (low + high) / 2
        best = (logprobs + rewards / math.exp(middle)).log_softmax(1)
        if float((best.exp() * (best - logprobs)).sum(1).mean()) > budget:
            low = middle
        else:
            high = middle
    return (logprobs + rewards / math.exp(high)).softmax(1)


def measured(pipeline: Path, quick: bool) -> dict[str, Any]:
    """All of it, once; it stands beside the stages then."""
    file = pipeline / MEASURED
    if not file.is_file():
        gauge = Gauge(pipeline, quick)
        budget = gauge.stages["ppo-large"].config.kl.target
        kl = {name: kl_at_end(stage.folder) for name, stage in gauge.stages.items() if stage.kind == "ppo"}
        sizes = {size: sum(p.numel() for p in gauge.trunk(f"sft-{size}").parameters()) for size in SIZES}
        write_json(
            file,
            {
                "parameters": sizes,
                "kl_budget": budget,
                "kl": kl,
                "text_losses": gauge.text_losses(),
                "again": gauge.again(),
                "random": gauge.random_answers(),
                "ceilings": {size: gauge.ceiling(size, budget) for size in SIZES},
            },
        )
    return json.loads(file.read_text(encoding="utf-8"))


def kl_at_end(folder: Path, iterations: int = 3) -> float:
    """To its own SFT model, nats per answer: mean of the last iterations."""
    last = read_metrics(folder)[-iterations:]
    return sum(line["ppo/kl_ref_over_responses"] for line in last) / len(last)


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def seed_results(pipeline: Path, quick: bool) -> dict[str, Any]:
    """What `win_rate_figure.gathered` takes of one seed."""
    folders = {
        stage.name: stage.folder for stage in plan(load_config(PipelineConfig, pipeline / "config.yaml"), pipeline)
    }
    samples = {judge: read_rows(folders[judge] / "samples.jsonl") for judge in ("by-truth", "by-reward-model")}
    seconds = json.loads((pipeline / "summary.json").read_text(encoding="utf-8"))["seconds"]
    return {"samples": samples, "measured": measured(pipeline, quick), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/win-rate-over-sizes", help="the pipelines' folder, one a seed")
    parser.add_argument("--images", default=str(IMAGES), help="where figure and numbers go")
    parser.add_argument("--seeds", type=int, default=0, help="how many; 0: three, of the quick form one")
    parser.add_argument("--quick", action="store_true", help="less of everything: a quarter of an hour on two cores")
    options = parser.parse_args()
    quick, seeds = options.quick, options.seeds or (1 if options.quick else 3)
    results, numbers = list[dict[str, Any]](), dict[str, Any]()
    for seed in range(seeds):
        pipeline = Path(options.out) / f"seed-{seed}"
        run_pipeline(pipeline, quick, seed)
        results.append(seed_results(pipeline, quick))
        numbers = gathered(results, form="quick" if quick else "full")
        print(tables(numbers), flush=True)
    images = Path(options.images)
    images.mkdir(parents=True, exist_ok=True)
    write_json(images / "win_rate_over_sizes.json", numbers)
    if images == IMAGES:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(filled(text, numbers), encoding="utf-8")
    draw(images)


def draw(images: Path) -> None:
    """The figure, of the numbers that stand there; with the real model's points where it has been measured."""
    numbers, real = (
        json.loads(file.read_text(encoding="utf-8")) if (file := images / f"{name}.json").exists() else None
        for name in ("win_rate_over_sizes", "real_model")
    )
    if numbers is None:
        return
    (images / "win_rate_over_sizes.svg").write_text(figure(numbers, real), encoding="utf-8")
    drawn = png(images / "win_rate_over_sizes.svg")
    print(f"\nfigure: {images / 'win_rate_over_sizes.svg'}" + ("" if drawn else " (no chromium here: no PNG)"))


if __name__ == "__main__":
    main()
