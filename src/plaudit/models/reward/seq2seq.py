"""A sequence-to-sequence model is asked which answer is better; an answer's reward is P("A") (SteamSHP, N3.11).

    POST: {x} \\n\\n RESPONSE A: {a}\\n\\n RESPONSE B: {b}\\n\\n Which response is better? RESPONSE

The answer is the decoder's first token. `against: nothing`: one answer alone stands as A beside the B ".", as the SHP
authors score it. A probability saturates: among answers that all beat "." clearly, P("A") is near 1 for each, and their
differences, which are all that PPO sees, are small. `output: log_odds` doesn't. `against: references`: it stands
beside real answers, as in training, and in both orders, so that what a letter gains by its position cancels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from plaudit.errors import UserError
from plaudit.formulas.masks import at_least_float32
from plaudit.models.attention import alike
from plaudit.models.beside import read_facts
from plaudit.models.load import Language, Loaded, architecture, finish, load_language
from plaudit.models.options import Against, ModelConfig, Output
from plaudit.models.reward.protocol import RewardModel, SavedKind, references_of, refuse_lone
from plaudit.models.reward.reader import in_buckets, padding_id
from plaudit.models.trunk import silence_noise
from plaudit.models.weights import pretrained
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Prompt
from plaudit.tokens.batches import Ids, by_token_budget, pad_right
from plaudit.tokens.tokenizer import encode_plain

KIND = "seq2seq"
QUESTION = "POST: {x} \n\n RESPONSE A: {a}\n\n RESPONSE B: {b}\n\n Which response is better? RESPONSE"
NOTHING = "."
"""The B beside a lone answer."""
LETTERS = ("A", "B")


class Seq2SeqRewardModel(RewardModel):
    """Which of two answers is better, as the probabilities of the letters A and B over the whole vocabulary (N3.11)."""

    kind = KIND

    def __init__(self, loaded: Loaded, *, output: Output, against: Against):
        super().__init__(loaded)
        self.hf = loaded.hf
        self.output, self.against = output, against
        self.letters = letter_ids(loaded.language)
        silence_noise(self)

    def forward(self, questions: Sequence[Ids]) -> Float[Tensor, "M 2"]:
        """log P of "A" and of "B" as the first token, in order, in fp32."""
        buckets = alike(range(len(questions)), [len(ids) for ids in questions])
        return in_buckets(buckets, lambda bucket: self._read([questions[i] for i in bucket]))

    def _read(self, questions: Sequence[Ids]) -> Float[Tensor, "b 2"]:
        ids, mask = pad_right(questions, padding_id(self.config))
        start = torch.full((len(questions), 1), self.config.decoder_start_token_id, device=self.device)
        logits = self.hf(
            input_ids=ids.to(self.device),
            attention_mask=mask.long().to(self.device),
            decoder_input_ids=start,
            use_cache=False,
        ).logits[:, 0]
        return at_least_float32(logits).log_softmax(dim=-1)[:, list(self.letters)]

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised, flat [B]: P("A") or log P("A") − log P("B"), beside the B "." or as `_beside_others` says."""
        raw = self._beside_nothing(groups, budget) if self.against == "nothing" else self._beside_others(groups, budget)
        return Scores.of_all(self.normalisation.apply(raw))

    def _beside_nothing(self, groups: Sequence[Group], budget: int) -> Float[Tensor, " B"]:
        pairs = [(group.prompt, answer, NOTHING) for group in groups for answer in group.responses]
        return self._raw_score(self._letter_logprobs(pairs, budget))

    def _beside_others(self, groups: Sequence[Group], budget: int) -> Float[Tensor, " B"]:
        """The mean over the row's `references`, or else over the group's own answers, of what both orders' mean says.
        An answer is among its group's own: differences of log-odds are then those of the pair, whatever K is. UserError
        names a lone answer without reference."""
        refuse_lone(groups)
        others = [references_of(group.columns) or list(group.responses) for group in groups]
        pairs = [(g.prompt, a, b) for g, rest in zip(groups, others, strict=True) for a in g.responses for b in rest]
        logprobs = self._letter_logprobs(pairs, budget)
        swapped = self._letter_logprobs([(p, b, a) for p, a, b in pairs], budget)
        each = 0.5 * (self._raw_score(logprobs) + self._raw_score(swapped.flip(1)))
        sizes = [len(rest) for group, rest in zip(groups, others, strict=True) for _ in group.responses]
        return torch.stack([part.mean() for part in each.split(sizes)]) if sizes else each

    def _raw_score(self, logprobs: Float[Tensor, "M 2"]) -> Float[Tensor, " M"]:
        """P or log-odds, out of log P of the answer's own letter and log P of the other."""
        return logprobs[:, 0].exp() if self.output == "probability" else logprobs[:, 0] - logprobs[:, 1]

    def _letter_logprobs(self, pairs: Sequence[tuple[Prompt, str, str]], budget: int) -> Float[Tensor, "M 2"]:
        return self._ask([question_ids(self.language, p, a, b, self.language.context) for p, a, b in pairs], budget)

    @torch.no_grad()
    def _ask(self, questions: Sequence[Ids], budget: int) -> Float[Tensor, "M 2"]:
        parts = [self([questions[i] for i in cut]).cpu() for cut in by_token_budget(map(len, questions), budget)]
        return torch.cat([torch.zeros(0, 2), *parts])

    def facts(self) -> dict[str, Any]:
        return {"output": self.output, "against": self.against}


def letter_ids(language: Language, where: str = "") -> tuple[int, int]:
    """The ids of the answers "A" and "B", as the tokenizer writes them (T5: 71 and 272). UserError where either takes
    several tokens: the first one alone would not tell them apart."""
    written = [encode_plain(language.tokenizer, letter) for letter in LETTERS]
    unknown = language.tokenizer.unk_token_id
    if any(len(ids) != 1 or ids[0] == unknown for ids in written) or written[0] == written[1]:
        raise UserError(f"{where}the tokenizer has no single tokens for the answers A and B, which this kind reads")
    return written[0][0], written[1][0]


def question_ids(language: Language, prompt: Prompt, a: str, b: str, max_length: int) -> list[int]:
    """The question's ids with the end token, at most `max_length`: the post loses its beginning first, then the longer
    answer its end. Line breaks in the texts become spaces."""
    post, a, b = (" ".join(text.splitlines()) for text in (prompt.text, a, b))
    ids = _written(language, post, a, b)
    while len(ids) > max_length:
        over = len(ids) - max_length
        if post:
            post = _without_beginning(language, post, over)
        elif not (a or b):
            raise UserError(f"max_length: {max_length} tokens are too few for the question itself")
        elif len(a) >= len(b):
            a = a[: _begin_of_last(language, a, max(1, over // 2))]
        else:
            b = b[: _begin_of_last(language, b, max(1, over // 2))]
        ids = _written(language, post, a, b)
    return ids


def _written(language: Language, post: str, a: str, b: str) -> list[int]:
    renderer = language.pair_renderer
    return [*renderer.answer_ids(QUESTION.format(x=post, a=a, b=b)), *renderer.frame.behind]


def _without_beginning(language: Language, text: str, count: int) -> str:
    """`text` less its first `count` tokens; at least a character goes."""
    begins = _begins(language, text)
    return text[max(1, begins[count]) :] if count < len(begins) else ""


def _begin_of_last(language: Language, text: str, count: int) -> int:
    """Where the last `count` tokens of `text` begin; before its end."""
    begins = _begins(language, text)
    return min(begins[-count], len(text) - 1) if count < len(begins) else 0


def _begins(language: Language, text: str) -> list[int]:
    read = language.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    return [begin for begin, _ in read["offset_mapping"]]


def check_backbone(config: ModelConfig, option: str = "model.path") -> None:
    """UserError naming `option` for a model that isn't asked questions."""
    if (kind := architecture(config)) != "encoder_decoder":
        raise UserError(
            f"{option}: a seq2seq reward model needs an encoder-decoder such as T5; {config.path!r} is no such, but "
            f"of the kind {kind}"
        )
    if config.pooling != "auto":
        raise UserError(f"model.pooling: {config.pooling!r} has no effect on a seq2seq model, which reads a letter")


def load(
    config: ModelConfig,
    language: Language,
    *,
    output: Output | None = None,
    against: Against | None = None,
    seed: int = 0,
) -> Seq2SeqRewardModel:
    """A saved model, or a sequence-to-sequence language model that is yet to learn the question; `output` and `against`
    None: as it was saved."""
    check_backbone(config)
    facts = read_facts(config.path)
    loaded = finish(pretrained(AutoModelForSeq2SeqLM, config, seed), language, config, seed)
    return Seq2SeqRewardModel(
        loaded, output=output or facts.get("output", "probability"), against=against or facts.get("against", "nothing")
    )


def _check_saved(config: ModelConfig, option: str) -> None:
    check_backbone(config, option)
    letter_ids(load_language(config), f"{option}: {config.path!r}: ")


SAVED = SavedKind(
    name=KIND,
    load=load,
    check=_check_saved,
    compares=lambda facts: facts.get("against") == "references",
    has_scale=lambda facts: facts.get("output", "probability") != "probability",
)
