"""What every name in the report means: the register's measures, and the few words that the report itself brings."""

import dataclasses
from collections.abc import Iterable

from plaudit.records.results import Measure
from plaudit.telemetry.numbers import fixed, number, percent
from plaudit.telemetry.register import PANELS, Panel, measure_of

UNKNOWN = "Written by the run under this name; this version of plaudit has no definition of it."


# word: (unit, meaning, formula)
OWN_TERMS = {
    "status": (
        "",
        "Finished: the run wrote its summary. Running: its process works on it, or gave a sign of life of late. "
        "Interrupted: it has logged something but no summary. Never started: it left nothing, or nothing but its "
        "configuration; a stage that logs no metrics looks so until it finishes.",
        "",
    ),
    "score": ("score units", "What the judge (a reward model or function) says of a whole response.", "r(x, y)"),
    "KL": (
        "nats",
        "How far a response lies from what the reference would write: the log-ratio summed over its tokens. "
        "For a single response the sum may be negative; the expectation is not.",
        "Σ_t [log π_θ(y_t | x, y_<t) − log π_ref(y_t | x, y_<t)]",
    ),
    "√KL": (
        "√nats",
        "Square root of the mean KL: the distance over which scores under optimisation bend smoothly (Gao, Schulman, "
        "Hilton 2022).",
        "√( (1/B) Σ_b Σ_t [log π_θ − log π_ref] );  0 where noise makes the mean negative",
    ),
    "gain": (
        "score units",
        "Score after training minus score before it, for the same prompt.",
        "r(x, y_after) − r(x, y_before)",
    ),
    "length": ("tokens", "Tokens of a response, the end token included; characters where the file has no tokens.", ""),
    "how it ended": (
        "",
        "eos: the policy wrote an end token. stop: a stop string appeared. Cut by the limit: it reached the largest "
        "number of tokens before it had ended.",
        "",
    ),
    "floor": (
        "the measure's unit",
        "The known reference at the worse end: what is reached without the stage, such as an untrained model's loss, "
        "chance, the objective before training, or a judge that knows no language.",
        "",
    ),
    "ceiling": (
        "the measure's unit",
        "The known reference at the better end, the best that anything can reach: for a loss the entropy of the text, "
        "for a reward model the accuracy attainable under noisy labels, for the objective its optimum J*.",
        "J* = E_x[ β log E_{y∼π_ref(·|x)} e^{r(x,y)/β} ],  J = E[r] − β·KL",
    ),
    "interval": ("the measure's unit", "The value's confidence interval: 95 %.", ""),
    "share reached": (
        "",
        "How far the value lies on the way from the worse reference to the better one; outside 0 to 100 % where it "
        "lies beyond them.",
        "(value − worse) / (better − worse)",
    ),
}


def measure(key: str) -> Measure:
    """The key's declaration, a family's with the user's word in its title; for a key of another version one that says
    that nothing is known."""
    try:
        declared = measure_of(key)
    except ValueError:
        return Measure(key=key, title=key.replace("_", " ").strip() or "(unnamed)", unit="", meaning=UNKNOWN)
    before, braces, after = declared.key.partition("{name}")
    if not braces:
        return declared
    name = key[key.index(before) + len(before) : len(key) - len(after)]
    curve = declared.curve.replace("{name}", name)
    return dataclasses.replace(declared, key=key, title=f"{declared.title}: {name}", curve=curve)


def arrange(keys: Iterable[str]) -> list[tuple[Panel, tuple[str, ...]]]:
    """Every key once, in the register's panels and their order; others last, one to a folded panel each."""
    left = sorted(set(keys), key=lambda key: ("held_out" in key, key))
    arranged = [(panel, tuple(key for key in left if measure(key).panel == panel.title)) for panel in PANELS]
    placed = {key for _, inside in arranged for key in inside}
    alone = [(Panel(title=measure(key).title, folded=True), (key,)) for key in left if key not in placed]
    return [(panel, inside) for panel, inside in arranged if inside] + alone


def is_share(unit: str) -> bool:
    """Whether a unit reads `share of …`: such numbers are shown in percent."""
    return unit.split(" ")[0] in ("share", "fraction")


def shown(value: float | None, unit: str, digits: int = 4) -> str:
    """A number in a table, where its unit stands beside it: 76.3%, 6.563."""
    return f"{fixed(100 * value, 1)}%" if value is not None and is_share(unit) else number(value, digits)


def spoken(value: float, unit: str) -> str:
    """A number as a sentence says it: 87 %, 0.65 nats, 1.98; a score's unit means nothing to a reader."""
    if is_share(unit):
        return percent(value)
    text = fixed(value, 2) if 0.01 <= abs(value) < 100 or value == 0 else number(value, 3)
    return text + (f" {unit.split('/')[0]}" if unit and unit != "score" else "")


def glossary(keys: Iterable[str]) -> dict[str, Measure]:
    """The report's own words, which have no key, then the measures by title."""
    own = {title: Measure(key="", title=title, unit=u, meaning=m, formula=f) for title, (u, m, f) in OWN_TERMS.items()}
    return own | {each.key: each for each in sorted(map(measure, set(keys)), key=lambda each: (each.title, each.key))}
