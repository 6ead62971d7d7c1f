"""Win rate over sizes: the tables of docs/figures.md, and the page with them in their places."""

from collections.abc import Mapping
from typing import Any

from benchmarks.win_rate_figure import BASELINE, METHODS, NAMES, REAL, SIZES, STEPS, Interval

BEGIN, REAL_BEGIN, END = "<!-- measured: win_rate_over_sizes -->", "<!-- measured: real_model -->", "<!-- end -->"


def tables(numbers: Mapping[str, Any]) -> str:
    """Markdown: every policy, then the steps from method to method at each size."""
    judged = ("wins", "E σ(Δr)", "by the reward model", "at equal length", "true score")
    head = "| " + " | ".join(("", "size", *judged, "tokens", "KL, nats", "loss on text")) + " |"
    lines = [head, "|" + "---|" * 10]
    sizes = numbers["parameters"]
    names = [f"{method}-{size}" for method in (*METHODS, "ceiling") for size in SIZES] + ["ppo-control", "random"]
    for name in names:
        method, _, size = (
            name.rpartition("-") if name.endswith(SIZES) else (name, "", "medium" if name[0] == "p" else "")
        )
        one = numbers["policies"][name]
        label = NAMES[method] + (" against itself" if name == BASELINE else "")
        cells = [label, f"{sizes[size] / 1e6:.2f} M" if size else ""]
        cells += [_cell(one.get(key)) for key in ("win_rate", "sigmoid", "reward_model", "length_controlled", "score")]
        cells += [
            f"{one['tokens']:.1f}" if "tokens" in one else "",
            f"{max(one['kl'], 0.0):.1f}" if "kl" in one else "",
        ]
        lines.append("| " + " | ".join([*cells, _cell(one.get("text_loss"), 3)]) + " |")
    lines += ["", "| difference of win rates | " + " | ".join(SIZES) + " |", "|---|" + "---|" * len(SIZES)]
    for a, b in STEPS:
        cells = [_cell(numbers["steps"][f"{size}: {b} − {a}"], signed=True) for size in SIZES]
        lines.append(f"| {NAMES[b]} − {NAMES[a]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(one: Interval | None, digits: int = 2, *, signed: bool = False) -> str:
    if one is None:
        return ""
    value, low, high = (f"{x:{'+' if signed else ''}.{digits}f}".replace("-", "−") for x in one)
    return f"{value} ({low} to {high})"


def filled(page: str, numbers: Mapping[str, Any]) -> str:
    """The page with these tables in their place."""
    about = f"{numbers['seeds']} seed(s), {numbers['prompts']} prompts, {numbers['seconds'] / 60:.0f} minutes"
    form = "**Quick form, one seed**" if numbers["form"] == "quick" else "Full form"
    return _placed(page, BEGIN, f"{form}: {about}. A known reward, not labellers.\n\n{tables(numbers)}")


def filled_real(page: str, real: Mapping[str, Any]) -> str:
    """The page with the real model's table in its place."""
    hours, memory = real["seconds"] / 3600, real["peak_memory_bytes"] / 2**30
    judge, own = (_cell(real["accuracy"][name]) for name in ("judge", "reward"))
    lines = [
        f"{real['parameters'] / 1e6:.1f} M parameters, {real['prompts']} prompts, {hours:.1f} hours, {memory:.1f} GiB "
        f"at most. On held-out rows the judge agrees with its people in {judge} of pairs, PPO's reward model with its "
        f"own in {own}.",
        "",
        "| against its own SFT | wins | at equal length | by PPO's reward model | score | KL, nats |",
        "|---|---|---|---|---|---|",
        f"| SFT |  |  |  | {_cell(real['sft_score'])} |  |",
    ]
    for name in REAL:
        one = real["policies"][name]
        cells = [_cell(one[key]) for key in ("win_rate", "length_controlled", "own_win_rate", "score")]
        lines.append(
            f"| {'as it comes' if name == 'prompted' else NAMES[name]} | {' | '.join(cells)} | {one['kl'][0]:.1f} |"
        )
    return _placed(page, REAL_BEGIN, "\n".join(lines))


def _placed(page: str, begin: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{text}\n{END}{after}"
