"""A stage under examination: what its checks look at, made once, when the first of them asks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from plaudit.data.clean import answers
from plaudit.doctor.findings import NotRunError
from plaudit.doctor.inputs import DataUse, KnownStage, Library, Part, data_uses, judges, texts_in
from plaudit.models.options import ModelConfig
from plaudit.records.text import Demonstration, Prompt, Row, Text
from plaudit.runs.folder import Run
from plaudit.telemetry.console import LOGGER

if TYPE_CHECKING:
    from plaudit.doctor.rehearsal import Answered, Rehearsal
    from plaudit.hardware.machine import Machine
    from plaudit.models.load import Language
    from plaudit.scoring.protocol import Scorer

T = TypeVar("T")
WITH_PARTICIPANTS = {
    "sft": "plaudit.training.sft:participants",
    "collect": "plaudit.training.collect:participants",
    "reward": "plaudit.training.reward.participants:participants",
    "ppo": "plaudit.training.policy.participants:participants",
}
SAMPLED_ROWS = 200
"""Rows of a file that are tokenised for a statistic."""


class Examined:
    """A stage, its files, and once they are asked for its tokenizer, models and judges.

    `stand_ins`: folders of earlier stages that haven't run, with what those would start from in place of what they
    would make. `whole`: models may be loaded, not only tokenizers.
    """

    def __init__(
        self,
        stage: KnownStage,
        *,
        library: Library,
        out: Path,
        stand_ins: Sequence[Path] = (),
        participants: Any = None,
        whole: bool = True,
    ) -> None:
        self.stage, self.library, self.out, self.whole = stage, library, out, whole
        self.name, self.kind, self.config = stage.name, stage.kind, stage.config
        self.stand_ins = frozenset(stand_ins)
        self.warnings: list[str] = []
        """What the stage itself warned of."""
        self._handed_in = participants
        self._failures: dict[str, str] = {}

    # ---- text

    @cached_property
    def uses(self) -> list[DataUse]:
        return data_uses(self.kind, self.config)

    @property
    def own_uses(self) -> list[DataUse]:
        """Those whose files are what the stage will read, not stand-ins."""
        return [use for use in self.uses if not self._stands_in(use.config.path)]

    def rows(self, use: DataUse) -> tuple[Row, ...]:
        return self.library.rows(use)

    def demonstrated(self) -> list[tuple[str, Demonstration]]:
        """(option, row) of demonstrations that the stage or one whose model it takes has learned from."""
        stages = [self.stage, *self.stage.ancestors().values()]
        uses = [(one, use) for one in stages for use in data_uses(one.kind, one.config) if use.part is Part.TRAINED]
        return [
            (use.option if one is self.stage else f"{one.name}: {use.option}", row)
            for one, use in uses
            if not self._stands_in(use.config.path)
            for row in self.library.rows(use)[:SAMPLED_ROWS]
            if isinstance(row, Demonstration)
        ]

    @cached_property
    def missing(self) -> list[str]:
        """Files and folders that earlier stages will make and nothing stands for yet."""
        products = [text for text in texts_in(self.config) if self.stage.maker(text)]
        return [text for text in products if not Path(text).exists()]

    @cached_property
    def untrained(self) -> bool:
        """Whether a model that it takes, or the maker of its answers, is a stand-in: what it writes then means
        nothing."""
        return any(self._stands_in(text) for text in texts_in(self.config)) or self._starts_from_nothing

    @property
    def _starts_from_nothing(self) -> bool:
        return self.model is not None and self.model.path == "tiny"

    def need_trained(self) -> None:
        """Raises: NotRunError where the models are stand-ins."""
        if self.untrained:
            raise NotRunError("needs trained models; here they are untrained")

    def need_own_rows(self) -> None:
        """Raises: NotRunError where some of its files are stand-ins."""
        if others := [use.config.path for use in self.uses if self._stands_in(use.config.path)]:
            raise NotRunError(f"needs the rows of {others[0]}, which an earlier stage makes")

    def _stands_in(self, path: str) -> bool:
        return any(folder in self.stand_ins for folder in Path(path).parents)

    # ---- tokens

    @property
    def model(self) -> ModelConfig | None:
        """Of the stage's own model."""
        return getattr(self.config, "model", None)

    @property
    def language(self) -> Language:
        """Of the model that learns or writes. Raises: NotRunError where the stage has none."""
        return self._once("tokenizer", lambda: self._language, [one for one in self.missing if one == self._own_path])

    @property
    def _own_path(self) -> str:
        """Of the model whose language the stage's prompts are in."""
        if self.kind == "compare":
            return self.config.policies[self.config.baseline]
        return "" if self.model is None else self.model.path

    @cached_property
    def _language(self) -> Language:
        from plaudit.models.load import load_language

        if self._handed_in is not None and hasattr(self._handed_in, "language"):
            return self._handed_in.language
        model = self.model
        if self.kind == "compare":
            model = ModelConfig(path=self._own_path, end_tokens=self.config.end_tokens)
        if model is None:
            raise NotRunError("this stage has no model of its own")
        learned = [use for use in self.uses if use.part is Part.TRAINED] if model.path == "tiny" else []
        return load_language(model, [text for use in learned for row in self.rows(use) for text in texts_of(row)])

    # ---- models

    @property
    def participants(self) -> Any:
        """The stage's own. Raises: UserError the first time, NotRunError later."""
        return self._once("models", lambda: self._participants)

    @cached_property
    def _participants(self) -> Any:
        if self._handed_in is not None:
            return self._handed_in
        if self.kind not in WITH_PARTICIPANTS:
            raise NotRunError("this stage trains nothing")
        if not self.whole:
            raise NotRunError("needs models, which --quick doesn't load")
        with overheard(self.warnings):
            return resolve_name(WITH_PARTICIPANTS[self.kind])(self.config, Run.memory(self.kind, self.config))

    @property
    def machine(self) -> Machine:
        from plaudit.hardware.machine import machine

        return machine(self.config.device)

    @property
    def scorers(self) -> list[tuple[str, Scorer]]:
        """(option, judge at work), each by itself."""
        return self._once("judges", lambda: self._scorers)

    @cached_property
    def _scorers(self) -> list[tuple[str, Scorer]]:
        from plaudit.scoring.build import judge_scorer

        if not self.whole:
            raise NotRunError("needs judges, which --quick doesn't load")
        with overheard([]):
            return [
                (option, judge_scorer(judge, self.machine, f"{option}.path"))
                for option, judge in judges(self.kind, self.config)
            ]

    @property
    def answered(self) -> Answered:
        """A few prompts answered by the policy, and what policy and reference say of it."""
        return self._once("answers", lambda: self._answered)

    @cached_property
    def _answered(self) -> Answered:
        from plaudit.doctor.rehearsal import answer

        with overheard([]):
            return answer(self.participants, self.config, self.kind)

    @property
    def rehearsal(self) -> Rehearsal:
        """Two steps, and the second one again from the first one's checkpoint."""
        return self._once("rehearsal", lambda: self._rehearsal)

    @cached_property
    def _rehearsal(self) -> Rehearsal:
        from plaudit.doctor.rehearsal import rehearse

        with overheard([]):
            return rehearse(self.participants, self.config, self.kind)

    def _once(self, what: str, make: Callable[[], T], needed: Sequence[str] | None = None) -> T:
        """What can't be made is an error once; checks that need it later are not run. `needed`: None is all files."""
        if missing := self.missing if needed is None else needed:
            raise NotRunError(f"needs {missing[0]}, which an earlier stage makes")
        if what in self._failures:
            raise NotRunError(self._failures[what])
        try:
            return make()
        except NotRunError:
            raise
        except Exception:
            self._failures[what] = f"needs the {what}; see the error"
            raise


def texts_of(row: Row) -> list[str]:
    """All text of a row."""
    if isinstance(row, Text):
        return [row.text]
    return [*(turn.content for turn in row.prompt.turns), *answers(row)]


def prompts_of(rows: Sequence[Row]) -> list[tuple[str, Prompt]]:
    """(where, prompt) of the rows that have one."""
    return [(row.where, row.prompt) for row in rows if not isinstance(row, Text)]


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def overheard(warnings: list[str]) -> Generator[None]:
    """What is warned of in the block goes to the list, and nowhere else; notices and progress are silent."""
    handlers, level = LOGGER.handlers[:], LOGGER.level
    LOGGER.handlers[:] = [_Collector(warnings)]
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
