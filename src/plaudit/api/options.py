"""What `plaudit generate` and `plaudit score` may be told. No torch."""

import re
from dataclasses import dataclass
from typing import Literal

from plaudit.data.options import DataConfig, PromptsConfig
from plaudit.engines.options import SamplingConfig
from plaudit.scoring.options import JudgeConfig
from plaudit.tokens.options import LongPrompts


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateConfig(SamplingConfig):
    """Let a model answer prompts: a line of JSON {prompt, response, finish} for each answer, as `score` reads it."""

    samples: int = 1
    """Answers to each prompt."""
    greedy: bool = False
    """The likeliest token each time, instead of sampling."""
    seed: int = 0
    """Of sampling: the same seed gives the same answers."""
    device: str = "auto"
    """`auto` (cuda, else cpu), `cpu` or `cuda`."""
    template: Literal["auto", "raw"] = "auto"
    """auto: a bare text becomes a user's turn where the tokenizer has a chat template; raw: always plain text."""
    chat_template: str = ""
    """Jinja text, or a file with it, instead of the tokenizer's own."""
    end_tokens: tuple[str, ...] = ()
    """Tokens that end a response, beside the model's own EOS ids."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    too_long: LongPrompts = "error"
    """What happens to prompts that leave no room for an answer: error, or drop and count them."""
    prompts: tuple[PromptsConfig, ...] = ()
    """The file of prompts; it may be given without this name."""

    def __post_init__(self) -> None:
        SamplingConfig.__post_init__(self)
        if self.samples < 1 or (self.greedy and self.samples > 1):
            raise ValueError(
                "samples must be at least 1, and 1 with greedy: all greedy answers to a prompt are the same"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """Let a judge score answers: a line of JSON {prompt, response, score} for each row, or {prompt, responses, scores}
    where a row has several answers. A judge that only compares (PairRM, SteamSHP) scores the answers of a row against
    each other (log-odds, mean 0), a lone answer against the row's `references`."""

    judge: JudgeConfig
    """Who judges: a reward model's folder or hub name, a built-in function, `rules.py:function`."""
    data: tuple[DataConfig, ...]
    """The file: demonstrations, comparisons, rankings, ratings or verdicts; their labels are not shown to the judge."""
    device: str = "auto"
    """`auto` (cuda, else cpu), `cpu` or `cuda`."""
    rows_per_batch: int = 64
    """Rows scored and written together; memory depends on it, scores do not."""

    def __post_init__(self) -> None:
        if self.rows_per_batch < 1:
            raise ValueError("rows_per_batch must be at least 1")


def judge_named(text: str) -> dict[str, str]:
    """What `rewards` of a YAML file says of a judge that is named by one word: a built-in function,
    `rules.py:function`, or else a model's folder or hub name."""
    from plaudit.scoring.builtin import BUILTIN  # takes longer to load than all options together

    if text in BUILTIN or re.search(r"[\w)]:\w+$", text):
        return {"kind": "function", "function": text}
    return {"kind": "model", "path": text}
