"""Who gives scores: reward models and reward functions, as a user names them. No torch."""

import math
import re
import sys
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from plaudit.config.objects import is_stand_in
from plaudit.errors import UserError, require
from plaudit.models.options import ModelConfig, ReadAs

OnError = Literal["error", "abstain", "value"]


TIMEOUT = 120.0
"""Seconds: long for a rule, enough for a batch of requests to a model."""


def _check_policy(name: str, on_error: str, error_value: float | None) -> None:
    if on_error not in get_args(OnError):
        raise UserError(f"reward function {name!r}: `on_error` must be error, abstain or value, not {on_error!r}")
    if (on_error == "value") != (error_value is not None):
        raise UserError(
            f"reward function {name!r}: `error_value` goes with `on_error: value` and only with it "
            f"(here on_error is {on_error!r}, error_value {error_value})"
        )
    if error_value is not None and not math.isfinite(error_value):
        raise UserError(f"reward function {name!r}: `error_value` must be a finite number, not {error_value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """A reward function as one part of the score."""

    kind: Literal["function"] = "function"
    function: str
    """Name of a built-in function, `module:function`, or `path.py:function` (N3.14). The file's code is executed."""
    weight: float = 1.0
    """Factor of this part in the weighted sum of scores; negative for faults such as `repetition`."""
    args: dict[str, Any] = field(default_factory=dict)
    """Keyword options handed to the function, such as `n: 3`."""
    name: str = ""
    """Name in metrics and messages; empty: the function's own."""
    on_error: OnError = "error"
    """Where the function raises, hangs, dies, or returns NaN or infinity: stop, leave the row out, or `error_value`."""
    error_value: float | None = None
    """Score units for such rows; only with `on_error: value`."""
    by_token: bool = False
    """The function returns a list for each completion, one number for each of its `completion_ids`; their sum is the
    score, and PPO's `shaping.credit: token` pays each where it was earned."""
    isolate: bool | None = None
    """Call it in a process of its own; null: your own functions, and those built in that can hang."""
    timeout: float = TIMEOUT
    """Seconds for one call (a batch of answers), then its process is killed and `on_error` decides."""
    memory_gb: float = 0.0
    """Address space of its process, 2^30 bytes; 0: no limit. Linux only; torch reserves far more than it uses."""

    def __post_init__(self) -> None:
        _check_policy(self.name or self.function, self.on_error, self.error_value)
        if self.by_token and ":" not in self.function and not is_stand_in(self.function):
            raise UserError(f"reward function {self.function!r}: none of those built in judges by token (`by_token`)")
        for option, value in (("timeout", self.timeout), ("memory_gb", self.memory_gb)):
            if not (math.isfinite(value) and (value > 0 or (value == 0 and option == "memory_gb"))):
                raise UserError(f"reward function {self.function!r}: `{option}` must be a positive number, not {value}")
            if value != type(self).__dataclass_fields__[option].default and not self.is_isolated:
                raise UserError(f"reward function {self.function!r}: `{option}` goes with `isolate: true` alone")
        if self.memory_gb and sys.platform != "linux":
            raise UserError(f"reward function {self.function!r}: `memory_gb` works on Linux only")

    @property
    def is_isolated(self) -> bool:
        """Whether the function gets a process of its own."""
        if self.isolate is not None:
            return self.isolate
        from plaudit.scoring.builtin import BUILTIN  # its libraries take longer to load than all options together

        if self.function in BUILTIN:
            return getattr(BUILTIN[self.function], "may_hang", False)
        return not self.function.startswith("plaudit.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModelConfig:
    """A reward model as one part of the score (N3)."""

    kind: Literal["model"] = "model"
    path: str
    """Its folder, or its name on the hub."""
    read_as: ReadAs = "auto"
    """What the model is. auto: what its files say; seq2seq: one that was trained elsewhere to name the better of A and
    B, as SteamSHP was, which looks like any other T5."""
    weight: float = 1.0
    """Factor of this part in the weighted sum of scores."""
    name: str = "reward_model"
    """Name in metrics and messages."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""

    @property
    def model(self) -> ModelConfig:
        """Where the model is, as whoever loads models is told."""
        return ModelConfig(path=self.path, trust_remote_code=self.trust_remote_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionConfig:
    """What a language model is asked as a judge, and how its reply becomes a number (docs/judges.md)."""

    form: Literal["score", "pair"] = "score"
    """`score`: each answer by itself; `pair`: every two answers of a prompt in both orders, with five verdicts."""
    prompt: str = ""
    """File with what is asked, `=== system` and `=== user` parts with placeholders; empty: the one that plaudit has."""
    read: Literal["text", "logprobs"] = "text"
    """How a score is read: `text`: the last match of `pattern`; `logprobs`: the mean of the scale's digits over their
    probabilities, where the reply has a digit."""
    pattern: str = ""
    """Regular expression whose first group is the number or the verdict; empty: in double brackets, as in [[7]]."""
    scale: tuple[int, int] = (1, 9)
    """The least and the best score; a number outside of it is none."""
    max_tokens: int = 1024
    """The most tokens of a reply."""
    temperature: float = 0.0
    """Of the reply."""
    seed: int = 0
    """Sent with every question, for servers that heed it."""

    def __post_init__(self) -> None:
        low, high = self.scale
        require(low < high, f"question.scale: {low} is not below {high}")
        require(self.max_tokens >= 1, "question.max_tokens must be at least 1")
        require(self.temperature >= 0.0, "question.temperature must not be negative")
        if self.read == "logprobs":
            require(self.form == "score", "question.read: logprobs goes with `form: score`")
            require(low >= 0 and high <= 9, "question.scale: with `read: logprobs` digits from 0 to 9")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"question.pattern: {error}") from error
        require(not self.pattern or groups, "question.pattern has no group in parentheses")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatJudgeConfig:
    """A language model on an OpenAI-compatible server as one part of the score (docs/judges.md)."""

    kind: Literal["chat"] = "chat"
    endpoint: str
    """URL up to and with /v1."""
    model: str
    """As the server calls it."""
    question: QuestionConfig = field(default_factory=QuestionConfig)
    """What it is asked."""
    weight: float = 1.0
    """Factor of this part in the weighted sum of scores."""
    name: str = "judge"
    """Name in metrics and messages."""
    key_variable: str = "PLAUDIT_JUDGE_KEY"
    """Environment variable that holds the server's key, if it wants one; the key stands in no file."""
    concurrency: int = 8
    """Requests on their way at once."""
    timeout: float = 60.0
    """Seconds for one attempt."""
    deadline: float = 600.0
    """Seconds for a question with all its attempts and waits; a longer Retry-After gives it up at once."""
    attempts: int = 6
    """How often a question is tried."""
    on_error: Literal["error", "abstain"] = "error"
    """Where a question stays unanswered: stop, or leave the answer out."""
    cache: str = ""
    """SQLite file with all replies, asked for once; empty: ~/.cache/plaudit/judges.sqlite."""
    calibration: str = ""
    """A run of `eval reward` on this judge, or its calibration.jsonl: PPO wants one."""
    uncalibrated: bool = False
    """Let it be PPO's reward without a calibration."""

    def __post_init__(self) -> None:
        url = urllib.parse.urlsplit(self.endpoint)
        require(
            url.scheme in ("http", "https") and url.hostname, "endpoint must be a URL such as http://127.0.0.1:8000/v1"
        )
        if "@" in url.netloc or url.query or url.fragment:
            raise ValueError(f"endpoint: no name, password or query in it; the key belongs into ${self.key_variable}")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable):
            raise ValueError("key_variable must be the NAME of an environment variable, in capitals, never the key")
        require(self.name and self.model, "name and model must not be empty")
        require(min(self.concurrency, self.attempts) >= 1, "concurrency and attempts must be at least 1")
        require(min(self.timeout, self.deadline) > 0.0, "timeout and deadline must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerativeJudgeConfig:
    """A language model in this process as one part of the score, asked as a `chat` judge is (docs/judges.md)."""

    kind: Literal["generative"] = "generative"
    path: str
    """Its folder, or its name on the hub."""
    question: QuestionConfig = field(default_factory=QuestionConfig)
    """What it is asked."""
    weight: float = 1.0
    """Factor of this part in the weighted sum of scores."""
    name: str = "judge"
    """Name in metrics and messages."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    batch_size: int = 32
    """Replies written together; memory, not replies, depends on it."""
    on_error: Literal["error", "abstain"] = "error"
    """Where a question with its reply doesn't fit into the model's context: stop, or leave the answer out."""
    calibration: str = ""
    """A run of `eval reward` on this judge, or its calibration.jsonl: PPO wants one."""
    uncalibrated: bool = False
    """Let it be PPO's reward without a calibration."""

    def __post_init__(self) -> None:
        require(self.name and self.batch_size >= 1, "name must not be empty, batch_size at least 1")

    @property
    def model(self) -> ModelConfig:
        """Where the model is, as whoever loads models is told."""
        return ModelConfig(path=self.path, trust_remote_code=self.trust_remote_code)


def function_name(spec: str) -> str:
    """The short name: what stands after the colon, or the built-in name."""
    return spec.rpartition(":")[2]


AskingConfig = ChatJudgeConfig | GenerativeJudgeConfig
"""A language model that is asked."""
JudgeConfig = RewardModelConfig | FunctionConfig | ChatJudgeConfig | GenerativeJudgeConfig
"""Who gives scores: a learned judge, a reward function, or a language model that is asked."""
