"""The record that a judge which is asked was measured before it decides: whom it is about, what it says. No torch."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.scoring.asking.template import template_text
from plaudit.scoring.options import AskingConfig, JudgeConfig
from plaudit.telemetry.console import say, warn

CALIBRATION = "calibration.jsonl"
AGREEMENT = ("expected_accuracy_over_pairs", "held_out_accuracy_over_pairs", "held_out_accuracy_over_rows")
"""Results that say how far a judge agrees with the truth or with people, the first of them that there is; else that
with people's ratings."""


def fingerprint(config: AskingConfig) -> str:
    """SHA-256 of all that decides what it says: model, question and the question's text, the seed apart."""
    about: dict[str, Any] = {"kind": config.kind, "text": template_text(config.question)}
    about |= {k: v for k, v in asdict(config.question).items() if k not in ("prompt", "seed")}
    if config.kind == "chat":
        about |= {"endpoint": config.endpoint.rstrip("/"), "model": config.model}
    else:
        about |= {"model": _weights(Path(config.path)) or config.path}
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _weights(folder: Path) -> str:
    """Of a folder's weights and tokenizer; empty where it is none."""
    digest = hashlib.sha256()
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.gguf"), *folder.glob("tokenizer*.json")])
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest() if files else ""


def record(config: AskingConfig, results: Sequence[Result], data: Mapping[str, str]) -> dict[str, Any]:
    """A line of calibration.jsonl: the judge's results on the labelled rows of `data` (file → sha256)."""
    return {
        "judge": config.name,
        "fingerprint": fingerprint(config),
        "data": dict(data),
        "results": [result.to_plain() for result in results],
    }


def check_calibrated(configs: Sequence[JudgeConfig], option: str = "rewards") -> None:
    """Before a judge may decide: UserError for one that is asked and was not measured, unless it is `uncalibrated`.

    Says how well it agreed; a warning where that can't be told from chance.
    """
    for index, config in enumerate(configs):
        if config.kind not in ("chat", "generative") or config.uncalibrated:
            continue
        where = f"{option}.{index}.calibration"
        if not config.calibration:
            raise UserError(
                f"{where}: {config.name!r} was never measured against labels. Run `plaudit eval reward` with it "
                "and name that run here, or let it decide without: `uncalibrated: true`"
            )
        agreement = _agreement(_lines(Path(config.calibration).expanduser(), where), config, where)
        if agreement is None:
            warn(f"{where}: its measurement says nothing of how far {config.name!r} agrees with labels")
            continue
        say(f"{config.name}: calibrated, {agreement.measure} {agreement.value:.3g} on {agreement.count}")
        if agreement.low is not None and agreement.floor is not None and agreement.low <= agreement.floor:
            warn(
                f"{where}: {config.name!r} agrees with the labels hardly better than by chance ({agreement.floor:.3g})"
            )


def _lines(path: Path, where: str) -> list[dict[str, Any]]:
    file = path / CALIBRATION if path.is_dir() else path
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {file} can't be read: {error}") from error


def _agreement(lines: Sequence[Mapping[str, Any]], config: AskingConfig, where: str) -> Result | None:
    own = [line for line in lines if line.get("fingerprint") == fingerprint(config)]
    if not own:
        others = ", ".join(str(line.get("judge")) for line in lines) or "nobody"
        raise UserError(
            f"{where}: it measures {others}, but not this judge: another model, question or scale. Measure it "
            "anew with `plaudit eval reward`"
        )
    results = [Result.from_plain(plain) for plain in own[-1]["results"]]
    whole = [result for result in results if not result.part]
    named = [result for key in AGREEMENT for result in whole if result.measure == key]
    return next(iter([*named, *(r for r in results if r.measure.endswith("_spearman_over_labels"))]), None)
