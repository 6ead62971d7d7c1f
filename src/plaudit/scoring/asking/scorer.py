"""A language model at work as a `Scorer`: each answer by itself, or every two of a prompt in both orders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Protocol, Self

from plaudit.errors import UserError
from plaudit.models.reward.protocol import references_of, refuse_lone
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.scoring.asking.reply import JudgeReply, Unanswered, number_of
from plaudit.scoring.asking.template import Question, Template
from plaudit.scoring.functions import Tally
from plaudit.scoring.options import AskingConfig, QuestionConfig
from plaudit.scoring.protocol import num_responses, scores_of
from plaudit.scoring.results import FailureKind


class Answerer(Protocol):
    """Whoever replies: a server, or a model in this process."""

    def ask(self, questions: Sequence[Question], seed: int) -> list[JudgeReply | Unanswered]:
        """One reply a question, in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingScorer:
    """What a language model says of answers (docs/judges.md).

    `form: score`: the number that it gives. `form: pair`: a response's score is the mean, over the others of its group
    or over its row's `references`, of (verdict shown first − verdict shown second) / 2, in steps of `VERDICTS`; so what
    a position gains cancels. Equal texts are asked for once. A reply without a number, of a pair in either order, says
    nothing: where nothing is left of an answer the scorer abstains.
    """

    config: AskingConfig
    answerer: Answerer
    template: Template
    seed: int
    tally: Tally = field(default_factory=Tally, compare=False)
    """Beside a function's counts: `replies` and those `unreadable`; of pairs in both orders `pairs` and the
    `inconsistent` ones, `first` and `second` of the decided verdicts."""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def question(self) -> QuestionConfig:
        return self.config.question

    def again(self) -> Self:
        """The same judge asked anew: with another seed, and counting by itself."""
        return replace(self, seed=self.seed + 1, tally=Tally())

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B]; UserError where the server leaves a question unanswered and `on_error` is `error`."""
        if self.question.form == "pair":
            refuse_lone(groups)
        plan = [self._pairs(group) for group in groups]
        questions = [question for one in plan for question in one.values()]
        replies = iter(self.answerer.ask(questions, self.seed))
        values: list[float | None] = []
        for group, one in zip(groups, plan, strict=True):
            before = Counter(self.tally.counts)
            numbers = {key: self._number(next(replies)) for key in one}
            values += self._scores(group, numbers)
            self.tally.by_prompt[group.prompt.id] += self.tally.counts - before
        self.tally.counts["rows"] += num_responses(groups)
        self.tally.counts["abstained"] += values.count(None)
        return scores_of(self.name, values)

    def _pairs(self, group: Group) -> dict[tuple[str, ...], Question]:
        """What is asked of a group: by (text) or, first shown first, by (text, other text)."""
        low, high = map(str, self.question.scale)
        texts = dict.fromkeys(group.responses)
        about = {"prompt": group.prompt.text, "low": low, "high": high}
        if self.question.form == "score":
            return {(text,): self.template.question(response=text, **about) for text in texts}
        references = references_of(group.columns)
        if references:
            pairs = [pair for a in texts for b in references if a != b for pair in ((a, b), (b, a))]
        else:
            pairs = list(permutations(texts, 2))
        return {(a, b): self.template.question(response_a=a, response_b=b, **about) for a, b in pairs}

    def _number(self, reply: JudgeReply | Unanswered) -> float | None:
        counts = self.tally.counts
        if isinstance(reply, Unanswered):
            message = f"judge {self.name!r}: {reply}"
            if self.config.on_error == "error":
                raise UserError(message)
            self.tally.failed(FailureKind.TIMED_OUT, message)
            return None
        number = number_of(reply, self.question)
        counts["replies"] += 1
        if number is None:
            counts["unreadable"] += 1
            notice = f"judge {self.name!r}: no number in its reply {reply.text[-200:]!r}; such replies are counted"
            self.tally.once("unreadable", notice)
        return number

    def _scores(self, group: Group, numbers: Mapping[tuple[str, ...], float | None]) -> list[float | None]:
        if self.question.form == "score":
            return [numbers[text,] for text in group.responses]
        references = references_of(group.columns)
        texts = list(dict.fromkeys(group.responses))
        opponents = {text: references or [other for other in texts if other != text] for text in texts}
        if not references and len(texts) == 1:  # all answers are the same
            return [0.0] * len(group.responses)
        counted: set[frozenset[str]] = set()
        by_text: dict[str, float | None] = {}
        for text in texts:
            ahead: list[float] = []
            for other in opponents[text]:
                if other == text:
                    ahead.append(0.0)
                    continue
                verdict, turned = numbers[text, other], numbers[other, text]
                if verdict is None or turned is None:
                    continue
                ahead.append((verdict - turned) / 2.0)
                if frozenset((text, other)) not in counted:
                    counted.add(frozenset((text, other)))
                    self._count(verdict, turned)
            by_text[text] = sum(ahead) / len(ahead) if ahead else None
        return [by_text[text] for text in group.responses]

    def _count(self, verdict: float, turned: float) -> None:
        counts = self.tally.counts
        counts["pairs"] += 1
        counts["inconsistent"] += (verdict > 0) - (verdict < 0) != (turned < 0) - (turned > 0)
        for one in (verdict, turned):
            counts["first"] += one > 0
            counts["second"] += one < 0
