"""Rows to train on: made ones with the ragged lengths of real text, or a file's, a character of ours for each word."""

import gzip
import json
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.shapes import Shape, alphabet

LONGEST = 256
"""Tokens of prompt and answer together."""


def made(shape: Shape, count: int, answers: int) -> list[tuple[str, list[str]]]:
    """Prompts and their answers: lengths are log-normal, prompts of about 40 tokens, answers of about 60."""
    letters, draw = alphabet(shape.vocabulary), random.Random(1)
    ids = range(letters.first, letters.first + len(letters.characters))

    def text(median: float, spread: float, most: int) -> str:
        return letters.text(draw.choices(ids, k=max(4, min(most, round(draw.lognormvariate(median, spread))))))

    return [
        (text(3.7, 0.7, LONGEST // 2), [text(4.1, 0.7, LONGEST // 2) for _ in range(answers)]) for _ in range(count)
    ]


def of_file(path: Path, shape: Shape, count: int, answers: int) -> list[tuple[str, list[str]]]:
    """The first rows of a .jsonl or .jsonl.gz: {prompt, chosen, rejected}, {prompt, response} or {prompt, responses};
    prompt may be missing, or a list of turns. A word or sign becomes one character: lengths and repetitions stay."""
    found = []
    for row in _lines(path):
        texts = [row["chosen"], row["rejected"]] if "chosen" in row else row.get("responses") or [row["response"]]
        if len(texts) < answers:
            continue
        prompt, *written = (_spelled(one, shape) for one in [row.get("prompt", "?"), *texts[:answers]])
        prompt = prompt[-LONGEST // 2 :]
        found.append((prompt, [one[: LONGEST // 2] for one in written]))
        if len(found) == count:
            return found
    raise SystemExit(f"{path}: {len(found)} rows with {answers} answers, {count} are needed; lower --steps")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _spelled(text: Any, shape: Shape) -> str:
    """One character a word; the same word, the same character."""
    letters = alphabet(shape.vocabulary).characters
    flat = text if isinstance(text, str) else " ".join(turn["content"] for turn in text)
    words = re.findall(r"\w+|[^\w\s]", flat) or ["?"]
    return "".join(letters[zlib.crc32(word.encode()) % len(letters)] for word in words)
