"""Win rate over sizes: from what the seeds left to numbers with intervals, the tables and the figure.

An interval is over seeds *and* prompts: its half-width is √(w_seed² + w_prompt²), w_prompt = 1.96 standard errors of
the mean over prompts, w_seed = t(S − 1) standard errors of the mean over S seeds; of one seed it is over prompts alone.
The two are added as if they had nothing in common, which errs on the wide side.
"""

import math
import operator
import shutil
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.formulas.win_rates import length_controlled_win_rate

SIZES = ("small", "medium", "large")
METHODS = ("gpt", "prompted", "sft", "ppo", "ppo-ptx")
NAMES = {
    "gpt": "GPT", "prompted": "GPT (prompted)", "sft": "SFT", "ppo": "PPO", "ppo-ptx": "PPO-ptx",
    "ppo-control": "PPO, labels permuted", "random": "any answer of the world", "ceiling": "J*'s policy",
}  # fmt: skip
BASELINE = "sft-large"
STEPS = (("gpt", "prompted"), ("prompted", "sft"), ("sft", "ppo"), ("ppo", "ppo-ptx"))
"""Pairs of methods whose difference is tested at each size."""
QUANTILES = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""Of Student's t, 97.5 %, by degrees of freedom."""
REAL = ("prompted", "ppo")
"""What the real model is compared with its SFT as."""
DRAWS = 200
"""Bootstrap draws of prompts, where the number is no mean."""

Table = Sequence[Sequence[float]]
"""One number a prompt, a row a seed."""
Interval = list[float]
"""Value, low, high."""


# ------------------------------------------------------------------------------------------------------- intervals


def interval(value: float, by_seed: Sequence[float], prompt_error: float) -> Interval:
    """`by_seed`: the number of each seed alone; `prompt_error`: the standard error over prompts."""
    seed_half = 0.0
    if len(by_seed) > 1:
        quantile = QUANTILES.get(len(by_seed) - 1, 1.96)
        seed_half = quantile * statistics.stdev(by_seed) / math.sqrt(len(by_seed))
    half = math.hypot(seed_half, 1.96 * prompt_error)
    return [value, value - half, value + half]


def mean_interval(table: Table) -> Interval:
    """Of the mean over seeds and prompts."""
    by_prompt = [statistics.fmean(column) for column in zip(*table, strict=True)]
    error = statistics.stdev(by_prompt) / math.sqrt(len(by_prompt))
    return interval(statistics.fmean(by_prompt), [statistics.fmean(row) for row in table], error)


def drawn_interval(statistic: Callable[[list[int], Tensor], Tensor], seeds: int, prompts: int) -> Interval:
    """Of a number that is no mean: `statistic` of chosen seeds and of how often each prompt counts [draws N]."""
    once = torch.ones(1, prompts, dtype=torch.float64)
    chosen = torch.randint(prompts, (DRAWS, prompts), generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(DRAWS, prompts, dtype=torch.float64).scatter_add_(1, chosen, torch.ones_like(chosen).double())
    whole = list(range(seeds))
    by_seed = [float(statistic([seed], once)) for seed in whole]
    return interval(float(statistic(whole, once)), by_seed, float(statistic(whole, counts).std()))


def length_controlled(outcomes: Table, differences: Table) -> Interval:
    """`formulas.win_rates.length_controlled_win_rate` over all seeds, prompts drawn again and again."""
    wins, lengths = torch.tensor(outcomes, dtype=torch.float64), torch.tensor(differences, dtype=torch.float64)

    def statistic(seeds: list[int], counts: Tensor) -> Tensor:
        return length_controlled_win_rate(wins[seeds].flatten(), lengths[seeds].flatten(), counts.repeat(1, len(seeds)))

    return drawn_interval(statistic, *wins.shape)


def share(one: Interval) -> Interval:
    """Within what a share can be."""
    return [min(max(x, 0.0), 1.0) for x in one]


# --------------------------------------------------------------------------------------------------------- numbers


def outcome(own: float, other: float) -> float:
    """1 for the better one, half for a tie."""
    return 0.5 if abs(own - other) <= 1e-9 else float(own > other)


def sigmoid(x: float) -> float:
    """1 / (1 + e^−x), without overflow."""
    return 0.5 * (1.0 + math.tanh(x / 2.0))


@dataclass(frozen=True, kw_only=True)
class Games:
    """One policy's answers beside the baseline's, by seed and prompt: scores and lengths in tokens."""

    scores: Table
    base_scores: Table
    lengths: Table
    base_lengths: Table

    def pairs(self, of: Callable[[float, float], float]) -> list[list[float]]:
        """A number of each pair of scores, own and the baseline's."""
        return [[*map(of, own, base)] for own, base in zip(self.scores, self.base_scores, strict=True)]

    def numbers(self) -> dict[str, Any]:
        wins = self.pairs(outcome)
        longer = [[*map(operator.sub, own, base)] for own, base in zip(self.lengths, self.base_lengths, strict=True)]
        return {
            "win_rate": share(mean_interval(wins)),
            "sigmoid": share(mean_interval(self.pairs(lambda own, base: sigmoid(own - base)))),
            "length_controlled": share(length_controlled(wins, longer)),
            "score": mean_interval(self.scores),
            "tokens": statistics.fmean(length for row in self.lengths for length in row),
        }


def gathered(seeds: Sequence[Mapping[str, Any]], *, form: str) -> dict[str, Any]:
    """Every number of the page, from what `win_rate_over_sizes.seed_results` says of each seed."""
    measured = [seed["measured"] for seed in seeds]
    games = _games([seed["samples"]["by-truth"] for seed in seeds])
    any_one = next(iter(games.values()))
    for name, key in ((BASELINE, "again"), ("random", "random")):
        own = {part: [one[key][part] for one in measured] for part in ("scores", "lengths")}
        games[name] = Games(**own, base_scores=any_one.base_scores, base_lengths=any_one.base_lengths)
    policies = {name: one.numbers() for name, one in games.items()}
    for name, one in _games([seed["samples"]["by-reward-model"] for seed in seeds]).items():
        policies[name]["reward_model"] = share(mean_interval(one.pairs(outcome)))
    for size in SIZES:
        ceilings = [one["ceilings"][size] for one in measured]
        keys = {"win_rate": "wins", "sigmoid": "sigmoids", "score": "scores"}
        numbers = {key: mean_interval([one[own] for one in ceilings]) for key, own in keys.items()}
        policies[f"ceiling-{size}"] = numbers | {key: share(numbers[key]) for key in ("win_rate", "sigmoid")}
    for name in measured[0]["text_losses"].keys() - {"tokens"}:
        policies[name]["text_loss"] = _text_loss([one["text_losses"] for one in measured], name)
    for name in measured[0]["kl"]:
        policies[name]["kl"] = statistics.fmean(one["kl"][name] for one in measured)
    facts = {"form": form, "seeds": len(seeds), "prompts": len(any_one.scores[0])}
    facts |= {"seconds": sum(seed["seconds"] for seed in seeds)}
    facts |= {key: measured[0][key] for key in ("parameters", "kl_budget")}
    return facts | {"policies": policies, "steps": _steps(games)}


def _steps(games: Mapping[str, Games]) -> dict[str, Interval]:
    """What each method adds to the win rate of the one before, prompt by prompt, at each size."""
    steps: dict[str, Interval] = {}
    for size in SIZES:
        for a, b in STEPS:
            pairs = zip(games[f"{a}-{size}"].pairs(outcome), games[f"{b}-{size}"].pairs(outcome), strict=True)
            steps[f"{size}: {b} − {a}"] = mean_interval([[*map(operator.sub, y, x)] for x, y in pairs])
    return steps


def _games(samples: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Games]:
    """By policy, from each seed's samples.jsonl."""
    names = dict.fromkeys(row["policy"] for row in samples[0])
    columns = {"scores": "score_after", "base_scores": "score_before"}
    columns |= {"lengths": "length_after", "base_lengths": "length_before"}
    return {
        name: Games(
            **{
                part: [[float(row[column]) for row in rows if row["policy"] == name] for rows in samples]
                for part, column in columns.items()
            }
        )
        for name in names
    }


def _text_loss(measured: Sequence[Mapping[str, Sequence[float]]], name: str) -> Interval:
    """Nats per token over documents; its error over documents is that of a ratio, by drawing documents."""
    tokens = torch.tensor(measured[0]["tokens"], dtype=torch.float64)
    losses = torch.tensor([one[name] for one in measured], dtype=torch.float64)

    def statistic(seeds: list[int], counts: Tensor) -> Tensor:
        return (counts @ losses[seeds].mean(0)) / (counts @ tokens)

    return drawn_interval(statistic, *losses.shape)


# ---------------------------------------------------------------------------------------------------------- figure

WIDTH, HEIGHT, LEFT, TOP, GAP = 470, 340, 60, 84, 84
"""Pixels of one panel, and around it."""
COLOURS = {"gpt": "#6b7280", "prompted": "#b45309", "sft": "#2563eb", "ppo": "#be123c", "ppo-ptx": "#7c3aed"}
MARKS = {"gpt": "circle", "prompted": "square", "sft": "diamond", "ppo": "up", "ppo-ptx": "down"}


def figure(numbers: Mapping[str, Any], real: Mapping[str, Any] | None = None) -> str:
    """One SVG: win rates over sizes, and the loss on running text; to the right of the win rates those of a real model,
    unconnected, where there are some."""
    whole = LEFT + 2 * WIDTH + GAP + 24
    seeds = f"{numbers['seeds']} seed{'s' if numbers['seeds'] > 1 else ''}"
    about = (
        f"{'quick form, ' if numbers['form'] == 'quick' else ''}{seeds}, {numbers['prompts']} prompts, 95 % intervals"
    )
    height = TOP + HEIGHT + (96 if real else 78)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {height}" font-family="sans-serif" '
        'font-size="13" fill="#1f2937">',
        "<title>Win rate against the largest SFT model, and loss on running text, over model sizes</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *_legend(),
        f'<text x="{LEFT}" y="{TOP + HEIGHT + 66}" fill="#4b5563">a known reward, not labellers; {about}</text>',
    ]
    policies = numbers["policies"]
    losses = [x for one in policies.values() for x in one.get("text_loss", ())]
    low, high = math.floor(min(losses) * 10) / 10, math.ceil(max(losses) * 10) / 10
    wins = _Panel(
        LEFT,
        "win rate against the largest SFT model, by the true reward",
        (0.0, 1.0),
        0.1,
        numbers["parameters"],
        beside=90.0 if real else 0.0,
    )
    text = _Panel(
        LEFT + WIDTH + GAP, "loss on held-out running text, nats per token", (low, high), 0.2, numbers["parameters"]
    )
    parts += [*wins.axes(), *text.axes(), *wins.level(0.5, "#1f2937")]
    for offset, method in enumerate(METHODS):
        shift = 7.0 * (offset - 2)
        parts += wins.curve(
            [policies[f"{method}-{size}"]["win_rate"] for size in SIZES], COLOURS[method], MARKS[method], shift
        )
        if method != "prompted":
            one = [policies[f"{method}-{size}"]["text_loss"] for size in SIZES]
            parts += text.curve(one, COLOURS[method], MARKS[method], shift)
    parts += wins.curve([policies[f"ceiling-{size}"]["win_rate"] for size in SIZES], "#15803d", "bar", 0.0, "5 4")
    parts += wins.curve([policies["ppo-control"]["win_rate"]], COLOURS["ppo"], "cross", 22.0, index=1)
    parts += wins.curve([policies["random"]["win_rate"]], "#6b7280", "cross", 30.0, index=2)
    parts += _real_points(wins, real) if real else []
    return "\n".join([*parts, "</svg>"]) + "\n"


def _real_points(panel: "_Panel", real: Mapping[str, Any]) -> list[str]:
    """In a strip of their own: another world, another judge, and their own SFT as the baseline."""
    right = panel.x0 + WIDTH
    edge = f'x1="{right - 86:.0f}" y1="{TOP}" x2="{right - 86:.0f}" y2="{TOP + HEIGHT}"'
    parts = [f'<line {edge} stroke="#9ca3af" stroke-dasharray="4 3"/>']
    for offset, method in enumerate(REAL):
        parts += panel.point(
            right - 54 + 22 * offset, real["policies"][method]["win_rate"], COLOURS[method], MARKS[method]
        )
    label = f"{real['parameters'] / 1e6:.0f} M, real"
    parts.append(f'<text x="{right - 43}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{label}</text>')
    judge = real["accuracy"]["judge"][0]
    about = f"real model: against its own SFT, by a judge that agrees with people in {judge:.0%} of pairs"
    return [*parts, f'<text x="{LEFT}" y="{TOP + HEIGHT + 84}" fill="#4b5563">{about}</text>']


class _Panel:
    """One pair of axes; the sizes stand at equal distances of their logarithms."""

    def __init__(
        self,
        x0: float,
        title: str,
        span: tuple[float, float],
        step: float,
        sizes: Mapping[str, int],
        *,
        beside: float = 0.0,
    ) -> None:
        self.x0, self.title, (self.low, self.high), self.step = x0, title, span, step
        logs = [math.log(sizes[size]) for size in SIZES]
        self.labels = [f"{sizes[size] / 1e6:.2f} M" for size in SIZES]
        self.x = [x0 + 50 + (WIDTH - 100 - beside) * (one - logs[0]) / (logs[-1] - logs[0]) for one in logs]

    def y(self, value: float) -> float:
        return TOP + HEIGHT * (self.high - value) / (self.high - self.low)

    def axes(self) -> list[str]:
        parts = [f'<text x="{self.x0}" y="{TOP - 14}" font-weight="bold">{self.title}</text>']
        for i in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + i * self.step
            y = self.y(value)
            parts.append(f'<line x1="{self.x0}" y1="{y:.1f}" x2="{self.x0 + WIDTH}" y2="{y:.1f}" stroke="#e5e7eb"/>')
            parts.append(f'<text x="{self.x0 - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
        for x, label in zip(self.x, self.labels, strict=True):
            parts.append(f'<text x="{x:.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{label}</text>')
        middle = self.x0 + WIDTH / 2
        return [*parts, f'<text x="{middle:.1f}" y="{TOP + HEIGHT + 42}" text-anchor="middle">parameters (log)</text>']

    def level(self, value: float, colour: str) -> list[str]:
        y = self.y(value)
        ends = f'x1="{self.x0}" y1="{y:.1f}" x2="{self.x0 + WIDTH}" y2="{y:.1f}"'
        return [f'<line {ends} stroke="{colour}" stroke-dasharray="2 4"/>']

    def curve(
        self, points: Sequence[Interval], colour: str, mark: str, shift: float, dashes: str = "", *, index: int = 0
    ) -> list[str]:
        """Points with their intervals, side by side by `shift` pixels, from the size of this index on."""
        xs = [x + shift for x in self.x[index : index + len(points)]]
        ends = " ".join(f"{x:.1f},{self.y(one[0]):.1f}" for x, one in zip(xs, points, strict=True))
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts = [f'<polyline points="{ends}" fill="none" stroke="{colour}" stroke-width="1.6"{dashed}/>']
        for x, one in zip(xs, points, strict=True):
            parts += self.point(x, one, colour, mark)
        return parts

    def point(self, x: float, one: Interval, colour: str, mark: str) -> list[str]:
        """One value with its interval."""
        value, low, high = one
        top, bottom = self.y(min(high, self.high)), self.y(max(low, self.low))
        line = f'<line x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'
        return [line, _mark(x, self.y(value), mark, colour)]


def _mark(x: float, y: float, mark: str, colour: str) -> str:
    around = {
        "square": [(-5, -5), (5, -5), (5, 5), (-5, 5)], "diamond": [(0, -6), (6, 0), (0, 6), (-6, 0)],
        "up": [(0, -6), (6, 5), (-6, 5)], "down": [(0, 6), (6, -5), (-6, -5)],
        "bar": [(-9, -1), (9, -1), (9, 1), (-9, 1)],
        "cross": [(-5, -3), (-3, -5), (0, -2), (3, -5), (5, -3), (2, 0),
                  (5, 3), (3, 5), (0, 2), (-3, 5), (-5, 3), (-2, 0)],
    }  # fmt: skip
    if mark == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in around[mark])
    return f'<polygon points="{points}" fill="{colour}"/>'


def _legend() -> list[str]:
    parts, x = list[str](), float(LEFT)
    entries = [(NAMES[method], COLOURS[method], MARKS[method]) for method in METHODS]
    entries += [("the ceiling: " + NAMES["ceiling"], "#15803d", "bar"), (NAMES["ppo-control"], COLOURS["ppo"], "cross")]
    for name, colour, mark in [*entries, (NAMES["random"], "#6b7280", "cross")]:
        parts += [_mark(x + 6, 22.0, mark, colour), f'<text x="{x + 18:.0f}" y="27">{name}</text>']
        x += 34 + 6.9 * len(name)
    return parts


def png(svg: Path) -> bool:
    """The same as a picture, twice as fine, where a chromium is there to draw it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        return False
    _, _, width, height = map(float, svg.read_text(encoding="utf-8").split('viewBox="')[1].split('"')[0].split())
    size = [f"--window-size={width:.0f},{height:.0f}", "--force-device-scale-factor=2", "--hide-scrollbars"]
    picture = f"--screenshot={svg.with_suffix('.png').resolve()}"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *size, picture, svg.resolve().as_uri()]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
