"""A real model's points beside the figure of win rates: as it comes, after SFT, after PPO, judged by other people.

    python -m benchmarks.real_model MODEL DEMONSTRATIONS VOTES COMPARISONS --out runs/real-model

MODEL is a folder or .gguf file of a small instruct model (SmolLM2-135M-Instruct in docs/figures.md). The rows, none of
which come with plaudit: DEMONSTRATIONS {prompt, response} (Dolly; rows with a context are left out), VOTES for PPO's
reward model (PandaLM's test set), COMPARISONS {prompt, chosen, rejected} by other people for the judge (hh-rlhf).
It divides them, runs configs/figures/real_model.yaml or goes on with it, and writes docs/images/real_model.json, the
figure and the table of docs/figures.md.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from benchmarks.win_rate_figure import REAL
from benchmarks.win_rate_over_sizes import IMAGES, PAGE, ROOT, draw
from benchmarks.win_rate_tables import filled_real
from plaudit.cli import main as plaudit
from plaudit.config.load import load_config
from plaudit.data.options import DataConfig
from plaudit.data.sources import read_raw
from plaudit.files import write_json
from plaudit.pipeline import PipelineConfig, plan
from plaudit.runs.folder import Run

CONFIG = ROOT / "configs" / "figures" / "real_model.yaml"
LENGTHS = (120, 240)
"""Characters of a prompt and of an answer at most: a model this small says little, and slowly."""
PARTS = {"demonstrations": 1000, "held_out_demonstrations": 100, "prompts": 400, "held_out_prompts": 200}
"""Rows of each file; no prompt stands in two."""
MEASURES = {
    "win_rate": "win_rate_over_prompts",
    "length_controlled": "length_controlled_win_rate_over_prompts",
    "score": "judge_score_over_prompts",
    "kl": "kl_baseline_over_prompts",
}


def divide(path: str, folder: Path) -> None:
    """Short demonstrations without a context into the stages' files, in an order that is always the same."""
    rows = [row for _, row in read_raw(DataConfig(path=path)).raws if not row.get("context")]
    pairs = {str(row["prompt"]).strip(): str(row["response"]).strip() for row in rows}
    chosen = sorted((p, r) for p, r in pairs.items() if 0 < len(p) <= LENGTHS[0] and 0 < len(r) <= LENGTHS[1])
    random.Random("real model").shuffle(chosen)
    if len(chosen) < sum(PARTS.values()):
        sys.exit(f"{path}: {len(chosen)} short rows without a context; {sum(PARTS.values())} are needed")
    folder.mkdir(parents=True, exist_ok=True)
    begin = 0
    for name, count in PARTS.items():
        keys = ("prompt",) if name.endswith("prompts") else ("prompt", "response")
        lines = [json.dumps(dict(zip(keys, pair, strict=False))) for pair in chosen[begin : begin + count]]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        begin += count


def paths(model: str, rows: Path, votes: str, comparisons: str) -> list[str]:
    """What the command line adds to the config."""
    given = {
        "sft.data.0.path": rows / "demonstrations.jsonl",
        "sft.held_out.0.path": rows / "held_out_demonstrations.jsonl",
        "ppo.prompts.0.path": rows / "prompts.jsonl",
        "reward.data.0.path": votes,
        "judge.data.0.path": comparisons,
    }
    given |= {f"{stage}.reference.0.path": rows / "held_out_demonstrations.jsonl" for stage in ("reward", "judge")}
    given |= {f"{stage}.model.path": model for stage in ("sft", "reward", "judge")}
    for stage in ("compare", "compare-by-own"):
        given |= {f"{stage}.prompts.0.path": rows / "held_out_prompts.jsonl", f"{stage}.policies.prompted": model}
    return [part for key, value in given.items() for part in (f"--stages.{key}", str(value))]


def measured(pipeline: Path) -> dict[str, Any]:
    """The numbers of the finished pipeline."""
    stages = plan(load_config(PipelineConfig, pipeline / "config.yaml"), pipeline)
    folders = {stage.name: stage.folder for stage in stages}
    whole = _summary(pipeline)
    results = {name: _summary(folder)["results"] for name, folder in folders.items()}
    policies = {
        name: {key: _interval(_one(results["compare"], measure, name)) for key, measure in MEASURES.items()}
        for name in REAL
    }
    for name, numbers in policies.items():
        numbers["own_win_rate"] = _interval(_one(results["compare-by-own"], MEASURES["win_rate"], name))
    return {
        "parameters": _parameters(folders["sft"] / "model"),
        "prompts": _one(results["compare"], MEASURES["score"], "sft")["count"],
        "seconds": whole["seconds"],
        "peak_memory_bytes": whole["peak_memory_bytes"],
        "accuracy": {
            name: _interval(_one(results[name], "held_out_accuracy_over_pairs")) for name in ("judge", "reward")
        },
        "sft_score": _interval(_one(results["compare"], MEASURES["score"], "sft")),
        "policies": policies,
    }


def _summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def _one(results: Sequence[Mapping[str, Any]], measure: str, subject: str = "") -> Mapping[str, Any]:
    return next(one for one in results if one["measure"] == measure and one["subject"] in {subject or one["subject"]})


def _interval(result: Mapping[str, Any]) -> list[float]:
    return [result["value"], result.get("low", result["value"]), result.get("high", result["value"])]


def _parameters(model: Path) -> int:
    with safe_open(str(model / "model.safetensors"), framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "demonstrations", "votes", "comparisons"):
        parser.add_argument(name)
    parser.add_argument("--out", default="runs/real-model", help="rows and pipeline go there")
    parser.add_argument("--images", default=str(IMAGES), help="where figure and numbers go")
    options = parser.parse_args()
    out, images = Path(options.out), Path(options.images)
    pipeline, rows = out / "pipeline", out / "rows"
    images.mkdir(parents=True, exist_ok=True)
    if Run.exists(pipeline):
        command = ["resume", str(pipeline)]
    else:
        divide(options.demonstrations, rows)
        added = paths(options.model, rows, options.votes, options.comparisons)
        command = ["pipeline", str(CONFIG), "--out", str(pipeline), *added]
    if code := plaudit(command):
        sys.exit(code)
    write_json(images / "real_model.json", numbers := measured(pipeline))
    if images == IMAGES:
        PAGE.write_text(filled_real(PAGE.read_text(encoding="utf-8"), numbers), encoding="utf-8")
    draw(images)


if __name__ == "__main__":
    main()
