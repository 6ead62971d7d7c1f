"""The rows of the table of results that `eval reward` makes of its block of numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Block = Mapping[str, Any]


def rows(block: Block) -> list[dict[str, Any]]:
    """Judge by judge, then the floors."""
    agreed = block["agreement"].get("one_against_others", {}).get("value")
    found = [row for name, judge in block["judges"].items() for row in _judge(name, judge, agreed)]
    found += [_share(name, "floor on the same pairs", floor, 0.5, None) for name, floor in _floors(block)]
    for kind, share in block["agreement"].items():
        found.append(_share("labellers", f"agreement: {kind.replace('_', ' ')}", share, None, None))
    return found


def _floors(block: Block) -> Iterator[tuple[str, Block]]:
    for name, accuracy in block["floors"].items():
        yield name.replace("_", " "), {**accuracy, "value": accuracy["accuracy"]}


def _judge(name: str, judge: Block, agreed: float | None) -> Iterator[dict[str, Any]]:
    if "pairs" in judge:
        yield from _pairs(name, judge["pairs"], agreed, no_scale=judge["scale"] == "none")
    for aspect, found in judge.get("ratings", {}).items():
        about = "" if aspect == "score" else f", {aspect}"
        for kind in ("pearson", "spearman"):
            row = _row(name, f"{kind.capitalize()} correlation with the ratings{about}", found[kind], "correlation")
            yield row | {"floor": 0.0, "ceiling": found.get("labellers") if kind == "pearson" else None}
        error = {"value": found["rmse"]}
        yield _row(name, f"RMSE to the ratings{about}", error, "label") | {"floor": found["label_std"], "ceiling": 0.0}
        if "accuracy" in found:
            yield from _accuracies(name, f"pair accuracy by the ratings{about}", found["accuracy"], None)
    if "verdicts" in judge:
        found = judge["verdicts"]
        majority = max(found["accepted"], 1.0 - found["accepted"])
        yield _share(name, "accuracy of `score > 0`", found["accuracy"], majority, 1.0) | {"unit": "share of answers"}
        if found["auc"] is not None:
            yield _row(name, "area under the ROC curve", found["auc"], "share") | {"floor": 0.5, "ceiling": 1.0}
        brier = found["accepted"] * (1.0 - found["accepted"])
        yield _row(name, "Brier score of σ(score)", {"value": found["brier"]}, "") | {"floor": brier, "ceiling": 0.0}


def _pairs(name: str, pairs: Block, agreed: float | None, *, no_scale: bool) -> Iterator[dict[str, Any]]:
    if "expected" in pairs:
        expected = pairs["expected"]
        row = _row(
            name,
            "pair accuracy, expected under the known label probabilities",
            {"value": expected["accuracy"]},
            "share of pairs",
        )
        yield row | {"floor": 0.5, "ceiling": expected["ceiling"]}
    yield from _accuracies(name, "pair accuracy", pairs["accuracy"], agreed)
    for which in ("longer", "shorter"):
        part = pairs["length"].get(f"accuracy_better_is_{which}")
        if part is not None:
            yield _share(name, f"pair accuracy where the better answer is the {which}", part, 0.5, None)
    correlation = {"value": pairs["length"]["correlation_within_prompts"]}
    yield _row(name, "correlation of score with length inside prompts", correlation, "correlation")
    position = pairs["position"]
    if 0.0 < position["labels_prefer_first"] < 1.0:
        metric = f"first-listed answer wins (by the labels {position['labels_prefer_first']:.3f})"
        yield _share(name, metric, position["judge_prefers_first"], None, None)
    if "flips" in position:
        yield _share(name, "winner changes with the answers' order", position["flips"], None, 0.0)
    said = " (its scores have no scale)" if no_scale else ""
    calibration = pairs["calibration"]
    for metric, key, unit, floor in (
        ("log loss of P(better) = σ(difference)", "log_loss", "nats", math.log(2.0)),
        ("Brier score", "brier", "", 0.25),
        ("expected calibration error", "ece", "share", None),
    ):
        row = _row(name, metric + said, {"value": calibration[key]}, unit)
        yield row | {"floor": floor, "ceiling": 0.0}


def _accuracies(name: str, metric: str, accuracy: Block, agreed: float | None) -> Iterator[dict[str, Any]]:
    """The whole, then each subset where there are several."""
    yield _share(name, metric, {**accuracy, "value": accuracy["accuracy"]}, 0.5, agreed)
    several = accuracy["subsets"] if len(accuracy["subsets"]) > 1 else {}
    for subset, part in several.items():
        yield _share(name, f"{metric}, {subset or 'no subset'}", {**part, "value": part["accuracy"]}, 0.5, None)


def _share(name: str, metric: str, share: Block, floor: float | None, ceiling: float | None) -> dict[str, Any]:
    return _row(name, metric, share, "share of pairs" if "pairs" in share else "share") | {
        "floor": floor,
        "ceiling": ceiling,
    }


def _row(name: str, metric: str, found: Block, unit: str) -> dict[str, Any]:
    return {
        "name": name,
        "metric": metric,
        "value": found["value"],
        "low": found.get("low"),
        "high": found.get("high"),
        "floor": None,
        "ceiling": None,
        "unit": unit,
    }
