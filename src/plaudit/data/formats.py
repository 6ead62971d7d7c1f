"""From a raw row (the dict that a file gave) to a record. The columns of each kind are told in `kinds`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from plaudit.data.kinds import ANSWERS, CONTEXTS, Raw
from plaudit.data.prompts import (
    answer_turn,
    beside_prompt,
    frame_columns,
    framed,
    has_prompt,
    is_rendered,
    parse_answer,
    parse_prompt,
    prompt_columns,
    question_beside,
)
from plaudit.data.turns import (
    RowDropped,
    RowError,
    answer_text,
    chat_prompt,
    is_message,
    is_trained,
    is_transcript,
    split_texts,
    split_turns,
    type_name,
)
from plaudit.data.values import integer, number, present, string
from plaudit.records.text import (
    Candidates,
    Comparison,
    Demonstration,
    Form,
    Kind,
    Message,
    Prompt,
    PromptRow,
    Ranking,
    Rating,
    Row,
    Text,
    Verdict,
)

NOTHING_TRAINED = "with weight 0 on every answer"
_RANKING_COLUMNS = ("responses", "ranks", "best")


def parse(raw: Raw, kind: Kind, where: str = "", *, learn: Literal["all", "last"] = "all") -> tuple[Row, ...]:
    """One raw row -> its records: several where a row holds the ratings of several answers, or a conversation of which
    `all` answers are learned.

    Raises RowError (column and reason) for a bad row, RowDropped for one that is left out by rule.
    """
    if kind is Kind.DEMONSTRATION:
        return _parse_demonstration(raw, where, learn)
    return _PARSERS[kind](raw, where)


def prompt_row(raw: Raw, kind: Kind, where: str = "") -> PromptRow:
    """The prompt of a row of any kind, with all columns that are not the prompt itself, for reward functions."""
    if kind is Kind.COMPARISON and (not has_prompt(raw) or _whole_conversations(raw["chosen"], raw["rejected"])):
        prompt = _parse_comparison(raw, where)[0].prompt
    elif kind is Kind.DEMONSTRATION and (column := turns_column(raw)):
        turns = beside_prompt(raw, raw[column], column)
        before = turns[:-1] if turns[-1].role == "assistant" else turns
        prompt = framed(raw, chat_prompt(before, column))
    else:
        prompt = parse_prompt(raw)[0]
    columns = _other_columns(raw, prompt_parts(raw, kind))
    # Absent solutions are no solutions; one beside others is an error of its own (`sources.row_parser`).
    if columns.get("solution", ...) is None:
        del columns["solution"]
    elif "solution" in columns:
        _check_solution(columns["solution"])
    return PromptRow(prompt=prompt, columns=columns, where=where)


def prompt_parts(raw: Raw, kind: Kind) -> tuple[str, ...]:
    """The columns of which the prompt of a row of this kind is made."""
    if kind is Kind.COMPARISON and _whole_conversations(raw.get("chosen"), raw.get("rejected")):
        return _parts_beside(raw)
    if kind is Kind.DEMONSTRATION and (column := turns_column(raw)):
        return (column, *_parts_beside(raw))
    return prompt_columns(raw)


def _parts_beside(raw: Raw) -> tuple[str, ...]:
    question = question_beside(raw)
    return (question, *(("input",) if isinstance(raw.get(question), str) else ()), *frame_columns(raw))


def _other_columns(raw: Raw, used: Sequence[str]) -> dict[str, Any]:
    """What is not `used`, for reward functions."""
    return {column: value for column, value in raw.items() if column not in used}


def _check_solution(value: Any) -> None:
    """`solution` is one or several texts or numbers (N3.14): an absent one would silently score as the empty string."""
    values = value if isinstance(value, list) else [value]
    if not values:
        raise RowError("solution", "the list of solutions is empty")
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            listed = "the list must hold" if isinstance(value, list) else "must be a string, a number or a list of"
            raise RowError("solution", f"{listed} strings or numbers, not {type_name(item)}")


def _parse_text(raw: Raw, where: str) -> tuple[Row, ...]:
    form = Form.RENDERED if is_rendered(raw) else Form.TEXT
    return (Text(text=string(raw, "text"), form=form, where=where),)


def _parse_prompt_row(raw: Raw, where: str) -> tuple[Row, ...]:
    return (prompt_row(raw, Kind.PROMPT, where),)


def turns_column(raw: Raw) -> str:
    """The column whose turns hold the answer too; empty where the answer has a column of its own."""
    if any(raw.get(c) is not None for c in ANSWERS):
        return ""
    return next((c for c in (*CONTEXTS, "messages") if raw.get(c) is not None), "")


def _parse_demonstration(raw: Raw, where: str, learn: Literal["all", "last"]) -> tuple[Demonstration, ...]:
    column = turns_column(raw)
    if not column:
        prompt, answer, column = _prompt_and_answer(raw)
        if _weights(raw[column], column) == [False]:
            raise RowDropped(NOTHING_TRAINED)
        return (Demonstration(prompt=prompt, response=answer.content, extra=answer.extra, where=where),)
    turns = beside_prompt(raw, raw[column], column)
    if turns[-1].role != "assistant":
        raise RowError(column, f"the last turn of a demonstration must be the assistant's, not the {turns[-1].role}'s")
    chat_prompt(turns[:-1], column)  # says what is wrong with the question that the last answer answers
    weights = [None] * (len(turns) - len(raw[column])) + _weights(raw[column], column)
    learned = _learned(turns, weights, learn)
    if not learned:
        raise RowDropped(NOTHING_TRAINED)
    demonstrations = []
    for index in learned:
        prompt = framed(raw, Prompt(form=Form.CHAT, turns=turns[:index]))
        answer = turns[index]
        demonstrations.append(Demonstration(prompt=prompt, response=answer.content, extra=answer.extra, where=where))
    return tuple(demonstrations)


def _weights(turns: Any, column: str) -> list[bool | None]:
    listed = turns if isinstance(turns, list) else [turns]
    return [is_trained(turn, column) if isinstance(turn, Mapping) else None for turn in listed]


def _learned(turns: Sequence[Message], weights: Sequence[bool | None], learn: Literal["all", "last"]) -> list[int]:
    """Which turns are learned: what the turns' own weights say, where one of them says something; else by `learn`."""
    answers = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    if any(weights[index] is not None for index in answers):
        return [index for index in answers if weights[index] is not False]
    return answers if learn == "all" else answers[-1:]


def _prompt_and_answer(raw: Raw) -> tuple[Prompt, Message, str]:
    """Prompt, answer, and the answer's column."""
    prompt, transcript = parse_prompt(raw)
    column = next((c for c in ANSWERS if raw.get(c) is not None), None)
    if column is None:
        named = next((c for c in ANSWERS if c in raw), None)
        raise RowError(named or "response", "is null" if named else "is missing")
    return prompt, answer_turn(raw[column], column, transcript), column


def _parse_comparison(raw: Raw, where: str) -> tuple[Comparison, ...]:
    chosen, rejected = present(raw, "chosen"), present(raw, "rejected")
    if _whole_conversations(chosen, rejected):
        sides = beside_prompt(raw, chosen, "chosen"), beside_prompt(raw, rejected, "rejected")
        prompt, chosen, rejected = split_turns(*sides)
        prompt = framed(raw, prompt)
    elif has_prompt(raw) and not (is_transcript(chosen) and is_transcript(rejected)):
        prompt, transcript = parse_prompt(raw)
        chosen = parse_answer(chosen, "chosen", transcript)
        rejected = parse_answer(rejected, "rejected", transcript)
    else:
        for column, value in (("chosen", chosen), ("rejected", rejected)):
            if not isinstance(value, str):
                reason = f"without a prompt column it must be a whole text or conversation, not {type_name(value)}"
                raise RowError(column, reason)
        prompt, chosen, rejected = split_texts(chosen, rejected)
        prompt = framed(raw, prompt)
    margin = 0.0 if raw.get("margin") is None else number(raw["margin"], "margin")
    if margin < 0:
        raise RowError("margin", f"must not be negative, it is {margin:g}")
    return (Comparison(prompt=prompt, chosen=chosen, rejected=rejected, margin=margin, where=where),)


def _whole_conversations(chosen: Any, rejected: Any) -> bool:
    return isinstance(chosen, list) and isinstance(rejected, list) and (len(chosen) > 1 or len(rejected) > 1)


def _parse_ranking(raw: Raw, where: str) -> tuple[Ranking, ...]:
    prompt, transcript = parse_prompt(raw)
    responses = _responses(raw)
    texts, extras = _texts(responses, transcript)
    ranks = _own_ranks(raw, texts)
    if ranks is None and _is_described(responses):
        ranks = _ranks_of_described(responses)
    if ranks is None:
        raise RowError("ranks", "`ranks` or `best` is missing; answers that nobody has ranked: plaudit label")
    columns = {**_other_columns(raw, (*prompt_columns(raw), *_RANKING_COLUMNS)), **extras}
    return (Ranking(prompt=prompt, responses=texts, ranks=ranks, columns=columns, where=where),)


def _parse_candidates(raw: Raw, where: str) -> tuple[Candidates, ...]:
    prompt, transcript = parse_prompt(raw)
    texts, extras = _texts(_responses(raw), transcript)
    columns = {**_other_columns(raw, (*prompt_columns(raw), *_RANKING_COLUMNS)), **extras}
    return (Candidates(prompt=prompt, responses=texts, columns=columns, where=where),)


def _texts(responses: list[Any], transcript: bool) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The answers, and what else is said of each."""
    if _is_described(responses):
        return _described(responses, transcript)
    return tuple(parse_answer(r, "responses", transcript) for r in responses), {}


def _is_described(responses: list[Any]) -> bool:
    return isinstance(responses[0], Mapping) and not is_message(responses[0])


def _responses(raw: Raw) -> list[Any]:
    responses = present(raw, "responses")
    if not isinstance(responses, list):
        raise RowError("responses", f"must be a list, not {type_name(responses)}")
    if not responses:
        raise RowError("responses", "the list is empty")
    return responses


def _described(responses: list[Any], transcript: bool) -> tuple[tuple[str, ...], dict[str, Any]]:
    """`[{text, ...}]` -> the texts, and what else is said of each, column-wise as `response_<name>` (None = absent)."""
    names: dict[str, None] = {}
    for index, item in enumerate(responses):
        if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
            raise RowError("responses", f"item {index} (counted from 0) has no `text` string")
        names.update(dict.fromkeys(item))
    names.pop("text")
    extras = {f"response_{name}": tuple(item.get(name) for item in responses) for name in names}
    return tuple(parse_answer(item["text"], "responses", transcript) for item in responses), extras


def _own_ranks(raw: Raw, texts: tuple[str, ...]) -> tuple[int, ...] | None:
    if raw.get("ranks") is not None:
        ranks = raw["ranks"]
        if not isinstance(ranks, list) or len(ranks) != len(texts):
            actual = f"{len(ranks)} ranks" if isinstance(ranks, list) else type_name(ranks)
            raise RowError(
                "ranks", f"must be a list with one rank for each of the {len(texts)} responses, not {actual}"
            )
        return competition_ranks([number(rank, "ranks") for rank in ranks])  # ties may share a mean rank, 2.5
    if raw.get("best") is None:
        return None
    best = integer(raw["best"], "best")
    if not 0 <= best < len(texts):
        raise RowError("best", f"is {best}, but the {len(texts)} responses are numbered from 0 to {len(texts) - 1}")
    return tuple(1 if index == best else 2 for index in range(len(texts)))


def _ranks_of_described(responses: list[Any]) -> tuple[int, ...]:
    by_rank = _all_numbers(responses, "rank")
    by_score = _all_numbers(responses, "score")
    if by_rank is None and by_score is None:
        raise RowError("responses", "every response needs a `score` (higher is better) or a `rank` (lower is better)")
    if by_rank is None:
        return competition_ranks([-score for score in by_score or ()])
    if by_score is not None:
        _check_agreement(by_rank, by_score)
    return competition_ranks(by_rank)


def _all_numbers(responses: list[Any], name: str) -> list[float] | None:
    values = [item.get(name) for item in responses]
    if all(value is None for value in values):
        return None
    for index, value in enumerate(values):
        if value is None:
            raise RowError("responses", f"item {index} (counted from 0) has no `{name}`, while others have one")
    return [number(value, f"responses.{name}") for value in values]


def _check_agreement(ranks: list[float], scores: list[float]) -> None:
    for i, (rank, score) in enumerate(zip(ranks, scores, strict=True)):
        for j in range(i):
            if (rank - ranks[j]) * (score - scores[j]) > 0:
                reason = f"`rank` (lower is better) and `score` (higher is better) disagree on items {j} and {i}"
                raise RowError("responses", reason)


def competition_ranks(values: Sequence[float]) -> tuple[int, ...]:
    """Lower is better -> ranks as in a race: 1 = best, ties share a rank, the next rank is skipped (1, 1, 3)."""
    ordered = sorted(values)
    first: dict[float, int] = {}
    for rank, value in enumerate(ordered, 1):
        first.setdefault(value, rank)
    return tuple(first[value] for value in values)


def _judged_answers(raw: Raw) -> tuple[Prompt, list[tuple[str, Mapping[str, Any]]]]:
    """The prompt, and (answer, what is said of it): one answer with columns of its own, or those of `responses`."""
    if raw.get("responses") is None or any(raw.get(c) is not None for c in ANSWERS):
        prompt, answer, column = _prompt_and_answer(raw)
        return prompt, [(answer_text(answer, column), raw)]
    prompt, transcript = parse_prompt(raw)
    responses = _responses(raw)
    texts, _ = _described(responses, transcript)
    return prompt, list(zip(texts, responses, strict=True))


def _parse_rating(raw: Raw, where: str) -> tuple[Rating, ...]:
    prompt, judged = _judged_answers(raw)
    return tuple(
        Rating(prompt=prompt, response=text, scores=_scores(item), labeller=_labeller(item), where=where)
        for text, item in judged
    )


def _parse_verdict(raw: Raw, where: str) -> tuple[Verdict, ...]:
    prompt, judged = _judged_answers(raw)
    return tuple(Verdict(prompt=prompt, response=text, label=_label(item), where=where) for text, item in judged)


def _scores(item: Mapping[str, Any]) -> dict[str, float]:
    """`scores {aspect: x}` (null = not rated) and `score`, which is the aspect called `score`."""
    scores: dict[str, float] = {}
    aspects = item.get("scores")
    if aspects is not None:
        if not isinstance(aspects, Mapping):
            raise RowError("scores", f"must be an object {{aspect: number}}, not {type_name(aspects)}")
        scores = {name: number(value, f"scores.{name}") for name, value in aspects.items() if value is not None}
    if item.get("score") is not None:
        scores["score"] = number(item["score"], "score")
    if not scores:
        raise RowError("score", "neither `score` nor any of `scores` has a number")
    return scores


def _labeller(item: Mapping[str, Any]) -> str:
    value = item.get("labeller")
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value != value or not isinstance(value, int | float) or value % 1:
        raise RowError("labeller", f"must be a name or a whole number, not {type_name(value)}")
    return str(int(value))


def _label(item: Mapping[str, Any]) -> bool:
    label = present(item, "label")
    if not (isinstance(label, int | float) and label in (0, 1)):  # true and false among them
        words = "; say which words mean accept: `accept: [...]`" if isinstance(label, str) else ""
        raise RowError("label", f"must be true or false (or 1 or 0), not {label!r:.40}{words}")
    return bool(label)


_PARSERS: dict[Kind, Callable[[Raw, str], tuple[Row, ...]]] = {
    Kind.TEXT: _parse_text,
    Kind.COMPARISON: _parse_comparison,
    Kind.RANKING: _parse_ranking,
    Kind.RATING: _parse_rating,
    Kind.VERDICT: _parse_verdict,
    Kind.PROMPT: _parse_prompt_row,
    Kind.CANDIDATES: _parse_candidates,
}
