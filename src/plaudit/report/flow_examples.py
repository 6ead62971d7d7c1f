"""One real example for each box of the flow, out of this run's own files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.report.collect import Answers, RunData, Sample
from plaudit.report.lineage import InputFile, Lineage, Maker
from plaudit.report.reading import finite
from plaudit.report.rollouts import Answer, Iteration, words
from plaudit.report.samples import Card

ANSWER_COLUMNS = ("completion", "response", "answer", "chosen")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedAnswers:
    """A prompt, its answers, and the rank of each: 1 = best, ties share a rank."""

    prompt: str
    responses: tuple[str, ...]
    ranks: tuple[int, ...]

    @property
    def order(self) -> str:
        """`D > C > A = B`."""
        levels = sorted(set(self.ranks))
        alike = ([_letter(i) for i, rank in enumerate(self.ranks) if rank == level] for level in levels)
        return " > ".join(" = ".join(letters) for letters in alike)

    @property
    def is_tied(self) -> bool:
        """Whether different answers share a rank, and not all of them."""
        return 1 < len(set(self.ranks)) < len(set(zip(self.ranks, self.responses, strict=True)))

    def answers(self, most: int) -> tuple[str, ...]:
        """A line for each, and how many more there are."""
        lines = [f"{_letter(i)}  {text}" for i, text in enumerate(self.responses)]
        more = len(lines) - most
        return (*lines[:most], *([f"and {more} more"] if more > 0 else []))

    @property
    def unordered(self) -> Card:
        sides = ((_letter(i), Answer(text=text)) for i, text in enumerate(self.responses))
        return Card(prompt=self.prompt, sides=tuple(sides))

    @property
    def ordered(self) -> Card:
        best_first = sorted(range(len(self.ranks)), key=lambda i: self.ranks[i])
        sides = ((f"{self.ranks[i]}. {_letter(i)}", Answer(text=self.responses[i])) for i in best_first)
        return Card(prompt=self.prompt, sides=tuple(sides))


def demonstration(files: Sequence[InputFile]) -> Card | None:
    for row in _first_rows(files):
        prompt, text = _prompt_and_answer(row)
        if text:
            return Card(prompt=prompt, sides=(("demonstration", Answer(text=text)),))
    return None


def prompt(files: Sequence[InputFile]) -> Card | None:
    for row in _first_rows(files):
        if text := _prompt_and_answer(row)[0]:
            return Card(prompt=text, sides=())
    return None


def ranking(files: Sequence[InputFile], family: Lineage, makers: Sequence[Maker]) -> RankedAnswers | None:
    """One with a tie of different answers if one is near the beginning: of what the reward model read, else of what the
    labellers left."""
    left = [family.output(run, "rankings.jsonl") for run in makers]
    for rows in (_first_rows(files), _first_rows(left)):
        ranked = [each for each in map(_ranked, rows) if each is not None]
        if ranked:
            return next((each for each in ranked if each.is_tied), ranked[0])
    return None


def by_sft(family: Lineage, sft: Sequence[Maker], collects: Sequence[Maker], compares: Sequence[Maker]) -> Card | None:
    """What an SFT policy wrote: in a comparison, else for labellers."""
    for run in compares:
        policies, base = run.config.get("policies"), str(run.config.get("baseline"))
        path = policies.get(base) if isinstance(policies, Mapping) else None
        if family.maker(path, run) in sft and (sample := _sample(run, 0)):
            return Card(prompt=sample.prompt, sides=((base, sample.before),))
    for run in collects:
        model = run.config.get("model")
        if isinstance(model, Mapping) and family.maker(model.get("path"), run) in sft:
            for name in ("rankings.jsonl", "candidates.jsonl"):
                for row in _first_rows([family.output(run, name)]):
                    responses = row.get("responses")
                    if isinstance(responses, list) and responses:
                        sides = ((run.folder.name, Answer(text=_text(responses[0]))),)
                        return Card(prompt=_text(row.get("prompt")), sides=sides)
    return None


def scored(ppos: Sequence[Maker]) -> Card | None:
    """An answer as the judge of PPO scored it."""
    for run in ppos:
        if newest := _newest(run):
            for rollout in newest.rollouts:
                if rollout.answer.score is not None:
                    label = f"{run.folder.name}, iteration {newest.number}"
                    return Card(prompt=rollout.prompt, sides=((label, rollout.answer),))
    return None


def policy(ppos: Sequence[Maker], compares: Sequence[Maker]) -> Card | None:
    """The same prompt before and after, else what the policy wrote last."""
    for run in compares:
        if sample := _sample(run, 0):
            return _two(sample, run)
    for run in ppos:
        if (newest := _newest(run)) and newest.rollouts:
            rollout = newest.rollouts[-1]
            label = f"{run.folder.name}, iteration {newest.number}"
            return Card(prompt=rollout.prompt, sides=((label, rollout.answer),))
    return None


def comparison(compares: Sequence[Maker]) -> Card | None:
    for run in compares:
        if sample := _sample(run, 1) or _sample(run, 0):
            return _two(sample, run)
    return None


def quote(card: Card | None) -> tuple[str, ...]:
    """The example in a box: the prompt, and the answer below it."""
    return () if card is None else (card.prompt, *(f"→ {side.text}" for _, side in card.sides[:1]))


def _two(sample: Sample, run: Maker) -> Card:
    base = str(run.config.get("baseline") or "before")
    return Card(prompt=sample.prompt, sides=((base, sample.before), (sample.policy or "after", sample.after)),
                gain=sample.gain)  # fmt: skip


def _sample(run: Maker, index: int) -> Sample | None:
    samples = _answers(run).samples
    return samples[index] if index < len(samples) else None


def _newest(run: Maker) -> Iteration | None:
    known = _answers(run)
    return known.last or known.first


def _answers(run: Maker) -> RunData | Answers:
    """Nothing of a run that isn't itself reported: no sha256 says that the reported ones had to do with its answers."""
    return run if isinstance(run, RunData) else Answers()


def _first_rows(files: Sequence[InputFile]) -> list[Mapping[str, Any]]:
    return [row for file in files for row in file.first]


def _ranked(row: Mapping[str, Any]) -> RankedAnswers | None:
    chosen, rejected, responses = row.get("chosen"), row.get("rejected"), row.get("responses")
    if chosen and rejected:
        texts, ranks = (_answer(chosen), _answer(rejected)), (1, 2)
    elif isinstance(responses, list):
        described = [each if isinstance(each, dict) else {"text": each} for each in responses]
        texts = tuple(_text(each.get("text", each.get("response"))) for each in described)
        ranks = _ranks(row, described)
    else:
        return None
    if len(texts) < 2 or len(ranks) != len(texts) or not all(texts):
        return None
    return RankedAnswers(prompt=_prompt_and_answer(row)[0], responses=texts, ranks=ranks)


def _ranks(row: Mapping[str, Any], described: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """1 = best; by `ranks`, else by `scores`, of the row or of each answer. Empty where neither is whole."""
    for many, one, sign in (("ranks", "rank", 1), ("scores", "score", -1)):
        stated = row.get(many)
        numbers = [finite(x) for x in (stated if isinstance(stated, list) else [d.get(one) for d in described])]
        values = [sign * x for x in numbers if x is not None]
        if len(values) == len(described):
            return tuple(1 + sum(other < value for other in values) for value in values)
    return ()


def _prompt_and_answer(row: Mapping[str, Any]) -> tuple[str, str]:
    messages = row.get("messages") or row.get("conversations")
    if isinstance(messages, list) and messages:
        *before, last = messages
        ends_in_answer = isinstance(last, dict) and last.get("role") == "assistant"
        return (_text(before), _text(last.get("content"))) if ends_in_answer else (_text(messages), "")
    named = next((row[name] for name in ANSWER_COLUMNS if row.get(name)), row.get("text"))
    return _text(row.get("prompt")), _answer(named)


def _answer(value: Any) -> str:
    """Of a whole conversation its last turn."""
    last = value[-1] if isinstance(value, list) and value else value
    return _text(last.get("content")) if isinstance(last, dict) else _text(last)


def _text(value: Any) -> str:
    """A single turn needs no role before it."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return words(value[0].get("content"))
    return words(value)


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"A{index}"
