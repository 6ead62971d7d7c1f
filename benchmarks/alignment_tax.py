"""The alignment tax (Ouyang et al. 2022): what PPO costs on the model's own text at equal reward, with and without ptx.

    python -m benchmarks.alignment_tax --out runs/alignment-tax

runs world and SFT of configs/alignment_tax/pipeline.yaml, then its PPO stage with `ptx.coef` 0 and as it stands, on
each seed, and measures every few iterations on prompts and demonstrations that nothing was trained on. Prints Markdown.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plaudit.config.load import load_config
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.data.tinyworld import true_reward
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.evaluation.compare import sequence_log_ratio
from plaudit.evaluation.perplexity import perplexity
from plaudit.hardware.machine import machine
from plaudit.hardware.options import DeviceConfig
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.pipeline import PipelineConfig, plan, run_stage
from plaudit.records.text import Kind
from plaudit.rollouts.sampler import sample
from plaudit.runs.folder import Run
from plaudit.tokens.encode import AnsweredPrompt, encode_answers
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.loop import ppo

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "alignment_tax" / "pipeline.yaml"
MEASURED = (4, 8, 12, 16, 20, 24)
"""Iterations after which a policy is measured."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    score: float
    """True reward of its answers to held-out prompts, at the sampling temperature."""
    nll: float
    """Nats per held-out demonstration, at temperature 1: the pre-training loss."""
    kl: float
    """To the SFT model, nats per answer."""


class Gauge:
    """Measures models against one SFT model, on the same rows with the same random numbers."""

    def __init__(self, world: Path, sft: Path, sampling: SamplingConfig) -> None:
        self.place = machine(DeviceConfig())
        self.language = load_language(ModelConfig(path=str(sft)))
        self.sampling = sampling
        self.reference = self._trunk(sft)
        self.prompts = load(DataConfig(path=str(world / "held_out_prompts.jsonl")), Kind.PROMPT).rows
        rows = load(DataConfig(path=str(world / "held_out_demonstrations.jsonl")), Kind.DEMONSTRATION).rows
        answers = [AnsweredPrompt(prompt=r.prompt, response=r.response, where=r.where) for r in rows]
        context = self.language.context
        self.demonstrations = encode_answers(
            answers, self.language.renderer, max_length=context, too_long="error"
        ).remaining

    def _trunk(self, folder: Path) -> Trunk:
        return Trunk(load_causal(ModelConfig(path=str(folder)), self.language, seed=0).hf).to(self.place.device)

    def __call__(self, folder: Path) -> Measured:
        trunk = self._trunk(folder)
        engine = build_engine(trunk, self.language)
        twice = [row for row in self.prompts for _ in range(2)]
        indices = [0, 1] * len(self.prompts)
        rollout = sample(engine, self.language, twice, self.sampling, sample_indices=indices, seed=12345)
        scores = true_reward([row.prompt.text for row in twice], list(rollout.responses))
        kl = sequence_log_ratio(trunk, self.reference, rollout, self.sampling.temperature, self.place)
        loss = perplexity(trunk, self.demonstrations, self.place)
        return Measured(score=sum(scores) / len(scores), nll=loss.nll_over_answers, kl=sum(kl) / len(kl))


def train_on(config: PPOConfig, folder: Path) -> None:
    """Begin, or go on up to `config.iterations`."""
    with Run.open(folder) if Run.exists(folder) else Run.create(folder, "ppo", config) as run:
        run.replace_config(config)
        ppo(config, run)


def at_score(points: Sequence[Measured], score: float) -> float:
    """The pre-training loss where the score is reached first, straight between two measurements."""
    for before, after in itertools.pairwise(points):
        if before.score < score <= after.score:
            share = (score - before.score) / (after.score - before.score)
            return before.nll + share * (after.nll - before.nll)
    raise ValueError(f"{score} is not between {points[0].score:.2f} and {max(p.score for p in points):.2f}")


def table(arms: Mapping[str, Sequence[Sequence[Measured]]]) -> str:
    """Markdown: means over seeds by iteration, then the losses at equal score with each seed's difference."""
    lines = ["| ptx | iterations | true score | held-out loss, nats | KL, nats |", "|---|---|---|---|---|"]
    for arm, seeds in arms.items():
        for i, iterations in enumerate((0, *MEASURED)):
            score, nll, kl = (
                sum(getattr(points[i], name) for points in seeds) / len(seeds) for name in ("score", "nll", "kl")
            )
            lines.append(f"| {arm} | {iterations} | {score:.2f} | {nll:.2f} | {kl:.2f} |")
    without, with_it = arms.values()
    low = max(points[0].score for points in (*without, *with_it))
    high = min(max(p.score for p in points) for points in (*without, *with_it))
    lines += ["", "| true score | loss without ptx | with ptx | difference by seed |", "|---|---|---|---|"]
    for share in (0.25, 0.5, 0.75, 1.0):
        score = low + share * (high - low) - 1e-9
        pairs = [(at_score(a, score), at_score(b, score)) for a, b in zip(without, with_it, strict=True)]
        plain, mixed = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        differences = ", ".join(f"{b - a:+.2f}" for a, b in pairs)
        lines.append(f"| {score:.2f} | {plain:.2f} | {mixed:.2f} | {differences} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/alignment-tax")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    out = Path(options.out)
    world, sft, stage = plan(load_config(PipelineConfig, CONFIG), out)
    for first in (world, sft):
        run_stage(first.kind, first.config, first.folder)
    gauge = Gauge(world.folder, sft.folder / "model", stage.config.sampling)
    start = gauge(sft.folder / "model")
    arms: dict[str, list[list[Measured]]] = {"none": [], f"{stage.config.ptx.coef:g}": []}
    for arm, seeds in arms.items():
        coef = 0.0 if arm == "none" else stage.config.ptx.coef
        for seed in range(options.seeds):
            points = [start]
            for iterations in MEASURED:
                config = replace(
                    stage.config, seed=seed, iterations=iterations, ptx=replace(stage.config.ptx, coef=coef)
                )
                folder = out / f"ptx-{arm}-seed-{seed}"
                train_on(config, folder)
                points.append(gauge(folder / "model"))
                print(arm, seed, iterations, points[-1], flush=True)
            seeds.append(points)
    print(table(arms))


if __name__ == "__main__":
    main()
