"""The rows that a reward model learns from, whatever their kind: their texts, and their labels shuffled."""

from collections.abc import Sequence
from dataclasses import replace

from plaudit.hardware.randomness import permutation
from plaudit.models.load import Language
from plaudit.records.text import Comparison, Ranking, Rating, Verdict
from plaudit.telemetry.console import say
from plaudit.tokens.encode import AnsweredPrompt, encode_answers
from plaudit.training.reward.options import LabelledRow


def responses(row: LabelledRow) -> tuple[str, ...]:
    """The answers that a row speaks of."""
    match row:
        case Ranking():
            return row.responses
        case Comparison():
            return (row.chosen, row.rejected)
        case _:
            return (row.response,)


def texts(row: LabelledRow) -> list[str]:
    """All text of a row, for a tokenizer that is made on the data."""
    return [*(message.content for message in row.prompt.turns), *responses(row)]


def shuffled(rows: Sequence[LabelledRow], seed: int) -> list[LabelledRow]:
    """The control: labels permuted, inside the prompt where rows compare answers, else between the rows."""
    if comparing := [row for row in rows if isinstance(row, Ranking | Comparison)]:
        return [_other_order(row, seed) for row in comparing]
    order = permutation(len(rows), seed, "shuffle_labels")
    return [_with_label_of(row, rows[other]) for row, other in zip(rows, order, strict=True)]


def _other_order(row: Ranking | Comparison, seed: int) -> Ranking | Comparison:
    order = permutation(len(responses(row)), seed, "shuffle_labels", row.prompt.id)
    if isinstance(row, Ranking):
        return replace(row, ranks=tuple(row.ranks[i] for i in order))
    return row if order[0] == 0 else replace(row, chosen=row.rejected, rejected=row.chosen)


def _with_label_of(row: LabelledRow, other: LabelledRow) -> Rating | Verdict:
    if isinstance(row, Rating) and isinstance(other, Rating):
        return replace(row, scores=other.scores, labeller=other.labeller)
    if isinstance(row, Verdict) and isinstance(other, Verdict):
        return replace(row, label=other.label)
    raise TypeError(f"{row.where} and {other.where} hold labels of different kinds")


def say_truncated(held_out: Sequence[LabelledRow], language: Language) -> None:
    """Every held-out answer is judged; one that is too long for the model is read without its prompt's beginning."""
    answers = [
        AnsweredPrompt(prompt=row.prompt, response=text, where=row.where) for row in held_out for text in responses(row)
    ]
    encoded = encode_answers(answers, language.renderer, max_length=language.context, too_long="truncate")
    if encoded.truncated:
        say(f"held out: {encoded.truncated} of {len(answers)} answers truncated to the context of {language.context}")
