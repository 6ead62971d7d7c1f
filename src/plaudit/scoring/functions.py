"""Rules that judge (N3.14): reward functions with the ecosystem's signature, called with care.

    def reward(prompts, completions, **columns) -> list[float | None]      # or `async def`; None abstains

as TRL's GRPO and RLOO trainers call it: everything by keyword; one list entry per response, so a prompt with G answers
stands G times; a bare or rendered prompt is a string and so is its completion, a chat prompt is a list of
`{role, content}` and its completion `[{"role": "assistant", "content": …}]`; `completion_ids` where the ids are known;
each other data column as a list. A chat prompt that ends with the assistant's own beginning hands it to the completion.

Differs from TRL: a function is given only what its signature takes, so `**columns` may be left out; texts and
chats in one batch come in two calls; NaN is an error, not an abstention; a row on which all abstain is left out instead
of scoring 0. `trainer_state` has `global_step`, `max_steps` and `epoch`; what `log_metric` and (numbers only)
`log_extra` are given becomes a metric of the step; there are no `environments`.

What the function returns is checked and never broadcast. What it is given are copies: it may scribble on them.
"""

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plaudit.errors import UserError
from plaudit.records.tensors import Scores
from plaudit.records.text import Form, Group
from plaudit.scoring.builtin import BUILTIN
from plaudit.scoring.calls import NOT_COLUMNS, OURS, TRL_ONLY, Returned, RewardFunction, call, takes
from plaudit.scoring.isolate import CallFailed, IsolatedFunction, IsolationError, isolated
from plaudit.scoring.loading import load_function, near
from plaudit.scoring.options import FunctionConfig, OnError, _check_policy, function_name
from plaudit.scoring.protocol import missing_column, scores_of
from plaudit.scoring.results import Failure, FailureKind, RowOutcome, described, read_result
from plaudit.scoring.rows import ResponseRow, rows_of
from plaudit.telemetry.console import warn

LEFT_OUT = frozenset({"prompt", "completion", "completion_ids"})
"""Data columns that are not passed on, as in TRL: their contents come as `prompts` and `completions`."""
HOPELESS = 4
"""So many rows of a failed batch hang one after the other before the rest is given up, not waited for."""
GIGABYTE = 2**30
EXAMPLES_KEPT = 5


@dataclass(slots=True)
class Tally:
    """What a reward function returned for the rows that it was given: counts since the run began."""

    counts: Counter[str] = field(default_factory=Counter)
    """`rows` seen, `abstained` (None), and a kind of failure each: `raised`, `timed_out`, `died`, `not_finite`."""
    examples: list[str] = field(default_factory=list)
    """The first few failures that `on_error` let pass, in words."""
    counts_before: Counter[str] = field(default_factory=Counter)
    """The counts when `take` last asked."""
    by_prompt: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Of a language model, by prompt id: what its replies were counted as since `take` last asked."""
    logged: dict[str, list[float]] = field(default_factory=dict)
    """What the function logged since `take_logged` last asked."""
    of_model: bool = False
    """Whether a reward model counts here: `rows`, and those `cut` to its context."""
    state: dict[str, float] = field(default_factory=dict)
    """How far training is, for functions that take `trainer_state`."""
    notices: set[str] = field(default_factory=set)
    """Notices that were given."""

    def once(self, notice: str, message: str) -> None:
        """Say it the first time."""
        if notice not in self.notices:
            self.notices.add(notice)
            warn(message)

    def failed(self, kind: FailureKind, message: str) -> None:
        """Count one; say the first of its kind aloud."""
        if not self.counts[kind]:
            warn(f"{message}; such rows are counted from now on")
        self.counts[kind] += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append(message)

    def take(self) -> Counter[str]:
        """What has been counted since the last call."""
        new = self.counts - self.counts_before
        self.counts_before = Counter(self.counts)
        self.by_prompt.clear()
        return new

    def take_logged(self) -> dict[str, float]:
        """Means of what has been logged since the last call."""
        means = {name: math.fsum(values) / len(values) for name, values in self.logged.items() if values}
        self.logged.clear()
        return means


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionScorer:
    """A reward function as a `Scorer`.

    `on_error` decides about rows on which the function raises (or calls sys.exit) or returns NaN or infinity; and where
    it has a process of its own, also about those on which it hangs or ends that process. To find them, a batch that
    failed is called again row by row: with `abstain` and `value` a function must therefore judge each row by itself.
    Where the first `HOPELESS` rows all hang, the others of the batch count as hung without a call.

    Whatever else is wrong (not a list, wrong length, text instead of numbers, a missing column) is the function's or
    the data's mistake on every row, and always stops with a UserError.
    """

    function: RewardFunction
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    on_error: OnError = "error"
    error_value: float | None = None
    by_token: bool = False
    value_check: Callable[..., object] | None = None
    """Of a built-in function: raises ValueError or TypeError for a value of its column that it can't use."""
    tally: Tally = field(default_factory=Tally, compare=False)

    def __post_init__(self) -> None:
        _check_policy(self.name, self.on_error, self.error_value)

    @property
    def required_columns(self) -> tuple[str, ...]:
        """What every data row must have: what the function declares, or its parameters without default."""
        declared = takes(self.function).columns
        return declared if declared is not None else tuple(n for n in self._without_default() if n not in NOT_COLUMNS)

    def row_problem(self, columns: Mapping[str, Any]) -> str:
        """The column that a row lacks, or whose value a built-in function can't use."""
        declared = takes(self.function).columns  # null and [] are refused too where the function declares its columns
        problem = missing_column(self.name, columns, self.required_columns, filled=declared is not None)
        if problem or self.value_check is None:
            return problem
        try:
            self.value_check(columns[self.required_columns[0]], **self.args)
        except (TypeError, ValueError) as error:
            return f"the reward function {self.name!r} can't use the column {self.required_columns[0]!r}: {error}"
        return ""

    def _without_default(self) -> list[str]:
        named = takes(self.function).parameters.items()
        return [name for name, has_default in named if not has_default and name not in self.args]

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B]; rows on which the function returned None, or failed under `on_error: abstain`, are not valid."""
        rows = rows_of(groups)
        values: list[float | tuple[float, ...] | None] = [None] * len(rows)
        for chats in (False, True):  # a function expects all prompts of a call in one form
            alike = [row for row in rows if (row.prompt.form is Form.CHAT) is chats]
            outcomes = self._outcomes(alike) if alike else []
            for row, outcome in zip(alike, outcomes, strict=True):
                values[row.index] = self._settle(row, outcome)
        self.tally.counts["rows"] += len(rows)
        scores = scores_of(self.name, [sum(v) if isinstance(v, tuple) else v for v in values])
        if not self.by_token:
            return scores
        return replace(scores, token_scores=tuple(_by_token(v, row) for v, row in zip(values, rows, strict=True)))

    def _outcomes(self, rows: list[ResponseRow]) -> list[RowOutcome]:
        arguments = self._arguments(rows)
        try:
            returned = self._called(arguments)
        except IsolationError:
            raise
        except (Exception, SystemExit) as error:
            return self._one_by_one(rows, error)
        for name, values in returned.metrics.items():
            self.tally.logged.setdefault(name, []).extend(values)
        for column in returned.not_numbers:
            lost = (
                f"reward function {self.name!r}: `log_extra` got {column!r}, which holds no numbers: it is kept nowhere"
            )
            self.tally.once(column, lost)
        return read_result(returned.result, self.name, rows, by_token=self.by_token)

    def _called(self, arguments: Mapping[str, Any]) -> Returned:
        if isinstance(self.function, IsolatedFunction):
            return self.function.call(arguments, self.tally.state)
        return call(self.function, arguments, self.tally.state)

    def _one_by_one(self, rows: list[ResponseRow], error: BaseException) -> list[RowOutcome]:
        """The batch failed with `error`: which rows are to blame?"""
        failure, hung = _failure(error), FailureKind.TIMED_OUT
        if len(rows) == 1:
            return [failure]
        outcomes: list[RowOutcome] = []
        for row in rows:
            if len(outcomes) == HOPELESS and all(isinstance(o, Failure) and o.kind is hung for o in outcomes):
                given_up = Failure(kind=hung, reason=f"was not called: the {HOPELESS} rows before it all hung")
                return outcomes + [given_up] * (len(rows) - HOPELESS)
            outcomes += self._outcomes([row])
            if self.on_error == "error" and isinstance(outcomes[-1], Failure):
                self._settle(row, outcomes[-1])  # raises: the rest need not be called
        if failure.kind is hung:  # the rows together only took too long
            slow = f"{len(rows)} rows together took longer than its `timeout`; they were judged one by one"
            self.tally.once("slow", f"reward function {self.name!r}: {slow}. A longer `timeout` saves that time")
        elif self.on_error == "error":
            together = f"on {len(rows)} rows together, though on none of them alone"
            raise UserError(f"reward function {self.name!r} {failure.reason} {together}") from error
        return outcomes

    def _settle(self, row: ResponseRow, outcome: RowOutcome) -> float | tuple[float, ...] | None:
        """A row's number, or its numbers by token, after the policy for failures; None abstains."""
        if not isinstance(outcome, Failure):
            self.tally.counts["abstained"] += outcome is None
            return outcome
        message = f"reward function {self.name!r}: {row}: {outcome.reason}"
        if self.on_error == "error":
            raise UserError(message) from outcome.cause
        self.tally.failed(outcome.kind, message)
        return self.error_value

    def _arguments(self, rows: list[ResponseRow]) -> dict[str, Any]:
        """Keyword arguments of one call, all of them copies."""
        self._check_present(rows)
        columns = [name for name in dict.fromkeys(name for row in rows for name in row.columns) if name not in LEFT_OUT]
        passed = takes(self.function).accepted([*OURS, *columns])
        clash = sorted(name for name in columns if name in passed and (name in OURS or name in self.args))
        if clash:
            raise UserError(
                f"reward function {self.name!r}: the data column {clash[0]!r} has the name of one of the function's "
                f"own arguments; rename the column (`columns:` of the data)"
            )
        prompts, completions = zip(*(row.turns() for row in rows), strict=True)
        offered: dict[str, Any] = {"prompts": list(prompts), "completions": list(completions)}
        if all(row.response_ids is not None for row in rows):
            for name in ("completion_ids", "completions_ids"):
                offered[name] = [list(row.response_ids or ()) for row in rows]
        for name in columns:
            if name in passed:
                offered[name] = [copy.deepcopy(row.columns.get(name)) for row in rows]
        return {name: value for name, value in offered.items() if name in passed} | copy.deepcopy(dict(self.args))

    def _check_present(self, rows: list[ResponseRow]) -> None:
        """UserError naming the first row that lacks what the function cannot do without."""
        wants_ids = self.by_token or not {"completion_ids", "completions_ids"}.isdisjoint(self._without_default())
        for row in rows:
            if wants_ids and row.response_ids is None:
                raise UserError(f"reward function {self.name!r}: {row} comes as text alone, without `completion_ids`")
            if problem := self.row_problem(row.columns):
                raise UserError(f"{row}: {problem}")


def _by_token(value: float | tuple[float, ...] | None, row: ResponseRow) -> tuple[float, ...]:
    """One number for each of the row's tokens, whose sum is its score; what stands for a failed row is its last's."""
    if isinstance(value, tuple):
        return value
    count = len(row.response_ids or ())
    return (0.0,) * (count - 1) + (value or 0.0,) if count else ()


def _failure(error: BaseException) -> Failure:
    if isinstance(error, CallFailed):
        return Failure(kind=error.kind, reason=error.reason, cause=error)
    return Failure(kind=FailureKind.RAISED, reason=f"raised {described(error)}", cause=error)


def function_scorer(config: FunctionConfig) -> FunctionScorer:
    """Load the function and check its options before anything is scored. UserError names function and option."""
    if config.is_isolated:
        memory = round(config.memory_gb * GIGABYTE)
        function: RewardFunction = isolated(config.function, timeout=config.timeout, memory=memory)
    else:
        function = load_function(config.function)
    scorer = FunctionScorer(
        function=function,
        name=config.name or function_name(config.function),
        args=config.args,
        on_error=config.on_error,
        error_value=config.error_value,
        by_token=config.by_token,
        value_check=getattr(BUILTIN.get(config.function), "value_check", None),
    )
    check_options(scorer, BUILTIN.get(config.function))
    return scorer


def check_options(scorer: FunctionScorer, builtin: RewardFunction | None = None) -> None:
    """UserError for an option that the function does not have; of a built-in one also for a wrong or missing one."""
    known = takes(scorer.function)
    for name, why in TRL_ONLY.items():
        if known.parameters.get(name) is False and name not in scorer.args:
            raise UserError(f"reward function {scorer.name!r} takes `{name}`, as TRL's trainers give it: {why}")
    columns = known.columns or ()
    options = [name for name in known.parameters if name not in NOT_COLUMNS and name not in columns]
    free = known.any_name and builtin is None
    for option in scorer.args:
        if option in NOT_COLUMNS or option in columns or (option not in options and not free):
            raise UserError(f"reward function {scorer.name!r} has no option {option!r}{near(option, options)}")
    if builtin is None:
        return
    try:  # the built-in functions check their options whatever the batch: ask with an empty one
        builtin(completions=[], **{column: [] for column in columns}, **scorer.args)
    except (TypeError, ValueError) as error:
        raise UserError(f"reward function {scorer.name!r}: {error}") from error
