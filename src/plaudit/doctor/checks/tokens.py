"""What becomes of the text: templates, BOS and end tokens, lengths, and which tokens the loss counts."""

import contextlib
from collections.abc import Iterator

from plaudit.data.check import quantiles
from plaudit.data.clean import answers, spelled_controls
from plaudit.doctor.examined import SAMPLED_ROWS, Examined, prompts_of, texts_of
from plaudit.doctor.findings import Finding, ShownRow, error, note, warning
from plaudit.doctor.inputs import DataUse, Part, judges
from plaudit.errors import UserError
from plaudit.models.beside import read_facts
from plaudit.models.load import Language, load_language
from plaudit.records.text import Demonstration, Prompt, Row, Text
from plaudit.tokens.pieces import Marked, marked
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import decode

CUT_SHARE = 0.25
"""Of rows that are cut or dropped: more than that is no tail."""
TOO_SHORT_SHARE = 0.5
"""Of demonstrated answers that the sampling limit would cut."""
UNKNOWN_SHARE = 0.01
TAIL = 40
"""Characters at a prompt's end in which a stop string is looked for."""
SHOWN = 2


def template(examined: Examined) -> Iterator[Finding]:
    """The model is written to as it was when it was trained."""
    language, model = examined.language, examined.model
    for use in examined.own_uses:
        for where, prompt in prompts_of(examined.rows(use))[:SAMPLED_ROWS]:
            try:
                language.renderer.prompt_ids(prompt, where=where)
            except UserError as fault:
                yield error(use.option, str(fault), "see model.chat_template")
                return
    known = read_facts(model.path).get("template_hash") if model and model.path != "tiny" else None
    if known not in (None, language.renderer.template_hash):
        yield warning(
            "model.chat_template",
            f"{model.path if model else ''} was trained with another chat template than it is written to here",
            "leave model.chat_template and model.template out, so that the model's own are used",
        )


def bos(examined: Examined) -> Iterator[Finding]:
    """One BOS, in front."""
    language = examined.language
    renderer, token = language.renderer, language.tokenizer.bos_token_id
    if not isinstance(renderer, Renderer) or token is None or token in language.end_ids:
        return
    for use in examined.own_uses:
        for where, prompt in prompts_of(examined.rows(use))[:SAMPLED_ROWS]:
            ids = renderer.prompt_ids(prompt, where=where)
            # Where the tokenizer puts none in front it may be a turn's token, as in ChatML.
            count = ids.count(token) if renderer.bos is not None else 2 if ids[:2] == [token, token] else 1
            if count != 1:
                spelled = language.tokenizer.bos_token
                yield warning(
                    where or use.option,
                    f"the prompt has {count} BOS tokens {spelled} instead of one",
                    f"take {spelled} out of the text (`prompt_rendered` rows) or the chat template",
                )
                break


def controls(examined: Examined) -> Iterator[Finding]:
    """No row spells a control token where text stands: the model would learn to write its letters."""
    renderer = examined.language.renderer
    if not isinstance(renderer, Renderer):
        return
    for use in examined.own_uses:
        rows = examined.rows(use)
        count, tokens = spelled_controls(rows, renderer.controls)
        if count:
            first = next((row.where for row in rows if any(t in text for t in tokens for text in texts_of(row))), "")
            yield warning(
                first or use.option,
                f"{count} of {len(rows)} rows spell control tokens ({', '.join(tokens)}), which are read as letters",
                f"take them out of {use.config.path}: plaudit writes BOS, turns and end tokens itself (or say "
                "`rendered: true` for the file)",
            )


def end_token(examined: Examined) -> Iterator[Finding]:
    """Answers end: a token says so, the loss counts it, and the limit leaves room for it."""
    language = examined.language
    if not isinstance(language.renderer, Renderer):
        return
    if not language.end_ids and not getattr(getattr(examined.config, "sampling", None), "stop", ()):
        yield warning(
            "model.end_tokens",
            "no token ends an answer, so the model can't learn to stop",
            "name one by model.end_tokens",
        )
        return
    learned = [use for use in examined.own_uses if use.part is Part.TRAINED] if examined.kind == "sft" else []
    for use in learned:
        yield from _untrained_ends(examined, language.renderer, use)
    yield from unreachable_ends(examined)


def _untrained_ends(examined: Examined, renderer: Renderer, use: DataUse) -> Iterator[Finding]:
    limit = _limit(examined, examined.language)
    rows = [row for row in examined.rows(use)[:SAMPLED_ROWS] if not isinstance(row, Text)]
    endless: list[str] = []
    cut: list[str] = []
    for row in rows:
        for text in answers(row):
            ids = renderer.response_ids(text, end=True, form=row.prompt.form)
            if not ids or ids[-1] not in examined.language.end_ids:
                endless.append(row.where)
            elif len(ids) > limit - 1 and examined.config.too_long == "truncate":
                cut.append(row.where)
    if endless:
        yield warning(
            endless[0], f"{len(endless)} of {len(rows)} answers have no end token to learn", "name model.end_tokens"
        )
    if cut:
        yield warning(
            cut[0],
            f"{len(cut)} of {len(rows)} answers are cut before their end token, which then isn't learnt there",
            f"raise max_length above {limit}, or set too_long to drop",
        )


def unreachable_ends(examined: Examined) -> Iterator[Finding]:
    """The limit ends most answers earlier than those end that the model learned from."""
    renderer, sampling = examined.language.renderer, getattr(examined.config, "sampling", None)
    if sampling is None or not isinstance(renderer, Renderer):
        return
    limit = sampling.max_new_tokens
    lengths = [
        (option, len(renderer.response_ids(row.response, end=True, form=row.prompt.form)))
        for option, row in examined.demonstrated()
    ]
    long = [option for option, length in lengths if length > limit]
    if len(long) > TOO_SHORT_SHARE * len(lengths):
        middle = quantiles([length for _, length in lengths])["median"]
        yield warning(
            "sampling.max_new_tokens",
            f"{limit} tokens end before {len(long)} of {len(lengths)} demonstrated answers do ({long[0]}; median "
            f"{middle}), so the end token is out of reach",
            f"set sampling.max_new_tokens to {quantiles([length for _, length in lengths])['95 %']} or more",
        )


def stop_strings(examined: Examined) -> Iterator[Finding]:
    """A stop string ends answers, and nothing else."""
    stops = getattr(getattr(examined.config, "sampling", None), "stop", ())
    if not stops:
        return
    language = examined.language
    for stop in stops:
        inside = [
            where or use.option
            for use in examined.own_uses
            for where, prompt in prompts_of(examined.rows(use))[:SAMPLED_ROWS]
            if stop in decode(language.tokenizer, language.renderer.prompt_ids(prompt), keep_specials=True)[-TAIL:]
        ]
        if inside:
            yield warning(
                "sampling.stop",
                f"{len(inside)} prompts have the stop string {stop!r} right before the answer, which may repeat it at "
                f"once: {inside[0]}",
                "choose a stop string that only the end of an answer has",
            )
        shown = [(option, row) for option, row in examined.demonstrated()]
        cut = [row.where or option for option, row in shown if stop in row.response.strip()]
        if cut:
            yield warning(
                "sampling.stop",
                f"{stop!r} stands inside {len(cut)} of {len(shown)} demonstrated answers: {cut[0]}",
                "choose a stop string that no answer contains before its end",
            )


def lengths(examined: Examined) -> Iterator[Finding]:
    """What is too long for a context, and for a judge's."""
    language = examined.language
    sampling = getattr(examined.config, "sampling", None)
    for use in examined.own_uses:
        rows = examined.rows(use)[: 5 * SAMPLED_ROWS]
        sizes = [(row, _size(row, language)) for row in rows]
        if not sizes:
            continue
        spread = quantiles([size for _, size in sizes])
        yield note(
            use.option, f"{use.config.path}: {spread['min']} to {spread['max']} tokens, median {spread['median']}"
        )
        limit = _limit(examined, language) - (sampling.max_new_tokens if sampling else 0)
        long = [(row, size) for row, size in sizes if size > limit]
        if long and sampling and examined.config.too_long == "error":
            row, size = long[0]
            yield error(
                "sampling.max_new_tokens",
                f"{row.where}: {size} tokens and {sampling.max_new_tokens} new ones exceed the context of "
                f"{language.context}, and so do {len(long) - 1} more prompts",
                "shorten the prompts or lower sampling.max_new_tokens",
            )
        elif len(long) > CUT_SHARE * len(sizes) and use.part is Part.TRAINED:
            how = {"drop": "dropped", "truncate": "cut", "error": "refused"}[examined.config.too_long]
            if how == "cut" and examined.kind == "sft":
                continue  # `end_token` tells
            yield (error if how != "cut" and len(long) == len(sizes) else warning)(
                "max_length",
                f"{use.config.path}: {len(long)} of {len(sizes)} rows are longer than {limit} tokens and will be {how}",
                "raise max_length, or take a model with a longer context",
            )
    if sampling:
        yield from _judged_in_part(examined, sampling.max_new_tokens)


def _judged_in_part(examined: Examined, new_tokens: int) -> Iterator[Finding]:
    for option, judge in judges(examined.kind, examined.config):
        if judge.kind != "model" or judge.path in examined.missing:
            continue
        reader = load_language(judge.model)
        prompts = [pair for use in examined.own_uses for pair in prompts_of(examined.rows(use))[:SAMPLED_ROWS]]
        long = [where for where, prompt in prompts if _prompt_size(prompt, reader) + new_tokens > reader.context]
        if long:
            yield warning(
                option,
                f"{judge.path} reads {reader.context} tokens, and {len(long)} of {len(prompts)} prompts with an answer "
                f"of {new_tokens} may have more: it judges them in part: {long[0]}",
                "lower sampling.max_new_tokens, leave long prompts out, or take a judge with a longer context",
            )


def vocabulary(examined: Examined) -> Iterator[Finding]:
    """The tokenizer knows the script that the rows are written in."""
    language = examined.language
    unknown = language.tokenizer.unk_token_id
    if unknown is None or unknown in language.end_ids:
        return
    for use in examined.own_uses:
        total, lost, first = 0, 0, ""
        for row in examined.rows(use)[:SAMPLED_ROWS]:
            for text in texts_of(row):
                ids = language.renderer.response_ids(text, end=False)
                total += len(ids)
                if count := ids.count(unknown):
                    lost, first = lost + count, first or row.where
        if lost > UNKNOWN_SHARE * total:
            yield warning(
                first,
                f"{lost} of {total} tokens of {use.config.path} are {language.tokenizer.unk_token}: the tokenizer "
                "can't write this text",
                "take a model whose tokenizer knows the script (byte-level BPE knows all)",
            )


def _limit(examined: Examined, language: Language) -> int:
    return getattr(examined.config, "max_length", 0) or language.context


def _prompt_size(prompt: Prompt, language: Language) -> int:
    return len(language.renderer.prompt_ids(prompt))


def _size(row: Row, language: Language) -> int:
    """Tokens of prompt and longest answer."""
    if isinstance(row, Text):
        return 0  # cut into windows
    longest = max(
        (len(language.renderer.response_ids(a, end=True, form=row.prompt.form)) for a in answers(row)), default=0
    )
    return _prompt_size(row.prompt, language) + longest


def shown_rows(examined: Examined) -> tuple[ShownRow, ...]:
    """The first rows of the file that the stage learns from or answers; nothing where they can't be written yet."""
    first = next((use for use in examined.uses[:1] if use in examined.own_uses), None)
    rows = examined.rows(first)[:SHOWN] if first else ()
    with contextlib.suppress(Exception):  # whatever is wrong is told by a check
        return tuple(ShownRow(where=row.where, pieces=_pieces(row, examined.language)) for row in rows)
    return ()


def _pieces(row: Row, language: Language) -> Marked:
    """Of a labelled answer the judge's model reads all and is read at the last token; of a prompt nothing is learnt."""
    renderer = language.renderer
    if isinstance(row, Text):
        ids = renderer.text_ids(row.text, row.form) if isinstance(renderer, Renderer) else []
        context, answer = ids[:1], ids[1:]
    else:
        extra = row.extra if isinstance(row, Demonstration) else {}
        context, answer = renderer.prompt_ids(row.prompt), list[int]()
        for text in answers(row)[:1]:
            context, answer = renderer.pair_ids(row.prompt, text, extra=extra, where=row.where)
    return marked(lambda part: decode(language.tokenizer, part, keep_specials=True), context, answer)
