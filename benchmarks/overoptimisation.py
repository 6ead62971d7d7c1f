"""Over-optimisation (Gao et al. 2023) in the tiny world: what judges say and what is true, against √KL; one command.

    python -m benchmarks.overoptimisation --out runs/overoptimisation

runs configs/overoptimisation/pipeline.yaml, or goes on with it, then draws docs/images/overoptimisation.svg and prints
the table of docs/overoptimisation.md.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.cli import main as plaudit
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "overoptimisation" / "pipeline.yaml"
SIZES = ("60", "240", "960")
"""Ranked prompts that the reward models learned from; in the names of the pipeline's stages."""
COLOURS = {"60": "#c2410c", "240": "#7c3aed", "960": "#0f766e"}
WINDOW = 2
"""Iterations of PPO that make one point of the figure: one alone has 128 answers."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where an optimised policy stands, means over answers."""

    at: str
    """The iteration of PPO, or the n of best of n."""
    kl: float
    """Nats; of best of n an upper bound."""
    judge: float
    """Score by the reward model that was optimised."""
    truth: float


def stage_folder(pipeline: Path, name: str) -> Path:
    return next(folder for folder in pipeline.iterdir() if folder.name.split("-", 1)[1:] == [name])


def ppo_points(pipeline: Path, size: str) -> list[Point]:
    """Means over windows of iterations, so that noise doesn't pass for a peak."""
    lines = read_metrics(stage_folder(pipeline, f"ppo-{size}"))
    windows = [lines[i : i + WINDOW] for i in range(0, len(lines) - WINDOW + 1, WINDOW)]

    def mean(window: Sequence[dict[str, Any]], key: str) -> float:
        return sum(line[key] for line in window) / len(window)

    return [
        Point(
            at=f"{window[0]['step']}–{window[-1]['step']}",
            kl=max(mean(window, "ppo/kl_ref_over_responses"), 0.0),
            judge=mean(window, "ppo/score_over_responses"),
            truth=mean(window, "ppo/part/true_reward_over_responses"),
        )
        for window in windows
    ]


def best_of_n_points(pipeline: Path, size: str) -> list[Point]:
    summary = json.loads((stage_folder(pipeline, "best-of-n") / "summary.json").read_text(encoding="utf-8"))
    return [
        Point(at=f"n = {p['n']}", kl=p["kl"], judge=p["score"], truth=p["truth"]) for p in summary["best_of_n"][size]
    ]


# ---------------------------------------------------------------------------------------------------- the table


def table(curves: dict[str, dict[str, list[Point]]]) -> str:
    """Markdown: where the truth was best, and what it was at the end."""
    lines = [
        "| optimised by | ranked prompts | true score at first | best | at √KL | at the end | judge at the end | √KL |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, of_size in curves.items():
        for size, points in of_size.items():
            best, last = max(points, key=lambda p: p.truth), points[-1]
            cells = [
                method,
                size,
                f"{points[0].truth:.2f}",
                f"{best.truth:.2f} ({best.at})",
                f"{math.sqrt(best.kl):.2f}",
            ]
            cells += [f"{last.truth:.2f}", f"{last.judge:.2f}", f"{math.sqrt(last.kl):.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- the figure

WIDTH, HEIGHT, LEFT, TOP, GAP = 430, 330, 56, 58, 40
"""Pixels of one panel, and around it."""


def figure(curves: dict[str, dict[str, list[Point]]]) -> str:
    """One SVG, a panel a method, on common axes: solid is true, dashed is what the judge says."""
    everything = [p for of_size in curves.values() for points in of_size.values() for p in points]
    right = math.ceil(2 * max(math.sqrt(p.kl) for p in everything)) / 2
    low = math.floor(min(min(p.judge, p.truth) for p in everything))
    high = math.ceil(max(max(p.judge, p.truth) for p in everything))
    whole = LEFT + len(curves) * WIDTH + (len(curves) - 1) * GAP + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {HEIGHT + TOP + 48}" font-family="sans-serif" '
        'font-size="13" fill="#1f2937">',
        "<title>Score by the judge and true score against the square root of the KL</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(),
    ]
    for index, (method, of_size) in enumerate(curves.items()):
        x0 = LEFT + index * (WIDTH + GAP)

        def place(p: Point, score: float, x0: float = x0) -> tuple[float, float]:
            return x0 + WIDTH * math.sqrt(p.kl) / right, TOP + HEIGHT * (high - score) / (high - low)

        parts += _axes(x0, method, right, low, high)
        for size, points in of_size.items():
            parts.append(_line([place(p, p.judge) for p in points], COLOURS[size], "6 4"))
            parts.append(_line([place(p, p.truth) for p in points], COLOURS[size], ""))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts = []
    for i, size in enumerate(SIZES):
        x = LEFT + 150 * i
        parts.append(f'<line x1="{x}" y1="16" x2="{x + 24}" y2="16" stroke="{COLOURS[size]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 30}" y="20">{size} ranked prompts</text>')
    x = LEFT + 150 * len(SIZES) + 20
    parts.append(f'<line x1="{x}" y1="16" x2="{x + 28}" y2="16" stroke="#1f2937" stroke-width="2"/>')
    parts.append(f'<text x="{x + 34}" y="20">true score</text>')
    parts.append(f'<line x1="{x + 120}" y1="16" x2="{x + 148}" y2="16" {_stroke("#1f2937", "6 4")}/>')
    return [*parts, f'<text x="{x + 154}" y="20">score by the reward model</text>']


def _axes(x0: float, title: str, right: float, low: int, high: int) -> list[str]:
    bottom = TOP + HEIGHT
    parts = [f'<text x="{x0}" y="{TOP - 12}" font-weight="bold">{title}</text>']
    for score in range(low, high + 1):
        y = TOP + HEIGHT * (high - score) / (high - low)
        parts.append(f'<line x1="{x0}" y1="{y:.1f}" x2="{x0 + WIDTH}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{x0 - 8}" y="{y + 4:.1f}" text-anchor="end">{score}</text>')
    for root in range(int(right) + 1):
        x = x0 + WIDTH * root / right
        parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}" stroke="#6b7280"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{root}</text>')
    parts.append(f'<line x1="{x0}" y1="{bottom}" x2="{x0 + WIDTH}" y2="{bottom}" stroke="#6b7280"/>')
    return [*parts, f'<text x="{x0 + WIDTH / 2}" y="{bottom + 40}" text-anchor="middle">√KL to π_ref, √nats</text>']


def _line(points: Sequence[tuple[float, float]], colour: str, dashes: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {_stroke(colour, dashes)}/>'


def _stroke(colour: str, dashes: str) -> str:
    return f'fill="none" stroke="{colour}" stroke-width="2"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/overoptimisation", help="the pipeline's folder")
    parser.add_argument("--figure", default=str(ROOT / "docs" / "images" / "overoptimisation.svg"))
    options = parser.parse_args()
    folder = Path(options.out)
    command = ["resume", str(folder)] if Run.exists(folder) else ["pipeline", str(CONFIG), "--out", str(folder)]
    if code := plaudit(command):
        sys.exit(code)
    curves = {
        "PPO": {size: ppo_points(folder, size) for size in SIZES},
        "best of n (at most these nats)": {size: best_of_n_points(folder, size) for size in SIZES},
    }
    Path(options.figure).write_text(figure(curves), encoding="utf-8")
    print(table(curves))
    print(f"\nfigure: {options.figure}")


if __name__ == "__main__":
    main()
