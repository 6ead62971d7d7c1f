"""Two answers in one input, and which is the better one (PairRM, N3.10).

    encoder   [CLS] <|source|> x [SEP] <|candidate1|> a [SEP] <|candidate2|> b [SEP]
    decoder     <s> x <|source|> a <|candidate1|> b <|candidate2|>
    PairRM    [CLS] <|source|> x [SEP] [CLS] <|candidate1|> a [SEP] [CLS] <|candidate2|> b [SEP]

logit(a, b) = f(h_source, h_candidate1) − f(h_source, h_candidate2), h the last states at the three markers, f a small
network. A decoder's marker stands behind its segment, because nothing before it can have been read there. The last
line is how PairRM's authors wrote it: their weights are read so (`pairrm`).

What this says of one answer it says of one answer against another. K answers are scored among themselves; an answer
alone, as in PPO, against the row's `references`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plaudit.errors import UserError
from plaudit.formulas.masks import at_least_float32
from plaudit.formulas.pair_scores import matrix_scores, one_pass_scores, unbiased_logit
from plaudit.models.attention import alike
from plaudit.models.beside import file_beside, read_facts
from plaudit.models.checkpoint import readable
from plaudit.models.encoders import encoder_backbone
from plaudit.models.load import Language, Loaded, architecture, finish, load_backbone, load_language
from plaudit.models.options import Aggregate, Full, ModelConfig
from plaudit.models.reward import pairrm
from plaudit.models.reward.protocol import RewardModel, SavedKind, references_of, refuse_lone
from plaudit.models.reward.reader import in_buckets, padding_id
from plaudit.models.trunk import silence_noise
from plaudit.models.weights import seeded
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Prompt
from plaudit.tokens.batches import by_token_budget, pad_right
from plaudit.tokens.pairs import PairRenderer
from plaudit.tokens.tokenizer import token_id

KIND = "pair"
MARKERS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
HEAD = "pair_head.safetensors"
SOURCE_SHARE = 0.6
"""Of the room, where prompt and answers don't fit: what the prompt may keep; PairRM's own limits are 1224 of 2048."""


@dataclass(frozen=True, slots=True)
class TextIds:
    """A prompt and its answers as ids, without markers and separators."""

    source: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Joint:
    """One input: a prompt's ids, those of the answer shown first, and of the one shown second."""

    source: tuple[int, ...]
    first: tuple[int, ...]
    second: tuple[int, ...]

    @property
    def length(self) -> int:
        """Ids of the three texts."""
        return len(self.source) + len(self.first) + len(self.second)

    @property
    def num_tokens(self) -> int:
        """With room for markers and separators."""
        return self.length + 9

    @property
    def swapped(self) -> "Joint":
        """The other order."""
        return Joint(self.source, self.second, self.first)


class PairRewardModel(RewardModel):
    """Log-odds of one answer against another, by a backbone that reads both at once."""

    kind = KIND

    def __init__(self, loaded: Loaded, *, aggregate: Aggregate, decoder: bool, seed: int):
        super().__init__(loaded)
        # Its normalisation stays the identity: a score among others has no zero point (N3.12 leaves this kind out).
        self.aggregate, self.decoder, self.backbone = aggregate, decoder, loaded.hf
        size = self.config.get_text_config().hidden_size
        with seeded(seed):
            self.head = nn.Sequential(nn.Linear(2 * size, size), nn.Tanh(), nn.Linear(size, 1))
        silence_noise(self)
        self.markers = tuple(token_id(loaded.language.tokenizer, marker) for marker in MARKERS)

    def forward(self, pairs: Sequence[Joint]) -> Float[Tensor, " M"]:
        """Log-odds that the answer shown first is the better one, in order, in fp32."""
        rows = [self._written(pair) for pair in pairs]
        buckets = alike(range(len(rows)), [len(ids) for ids, _ in rows])
        return in_buckets(buckets, lambda bucket: self._read([rows[i] for i in bucket]))

    def _written(self, pair: Joint) -> tuple[list[int], list[int]]:
        """The input's ids, and where its three markers stand."""
        before, between, behind = frame(self.language)
        pair = fit(pair, self.language.context - overhead(self.language))
        ids: list[int] = []
        positions: list[int] = []
        fronts = (before, between, between)
        for front, marker, part in zip(fronts, self.markers, (pair.source, pair.first, pair.second), strict=True):
            ids += front
            marked = [*part, marker] if self.decoder else [marker, *part]
            positions.append(len(ids) + (len(part) if self.decoder else 0))
            ids += [*marked, *behind]
        return ids, positions

    def _read(self, rows: Sequence[tuple[list[int], list[int]]]) -> Float[Tensor, " b"]:
        ids, mask = pad_right([row for row, _ in rows], padding_id(self.config))
        ids, mask = ids.to(self.device), mask.long().to(self.device)
        uncached = {"use_cache": False} if self.decoder else {}
        states = self.backbone(input_ids=ids, attention_mask=mask, **uncached).last_hidden_state
        positions = torch.tensor([at for _, at in rows], device=self.device)
        index = torch.arange(len(rows), device=self.device).unsqueeze(1)
        with torch.autocast(self.device.type, enabled=False):
            source, first, second = at_least_float32(states[index, positions]).unbind(1)
            left, right = (self.head(torch.cat([source, each], dim=1)).squeeze(1) for each in (first, second))
            return left - right

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Flat [B]: against the row's `references` where it has some, else the answers of a group among themselves
        (log-odds, mean 0 in the group). UserError names a lone answer without reference."""
        scores: dict[int, Float[Tensor, " K"]] = {}
        among = [i for i, group in enumerate(groups) if not references_of(group.columns)]
        refuse_lone([groups[i] for i in among])
        against = [i for i in range(len(groups)) if i not in set(among)]
        scores |= zip(against, self._against([groups[i] for i in against], budget), strict=True)
        relative = self._one_pass if self.aggregate == "one_pass" else self._matrix
        scores |= zip(among, relative([groups[i] for i in among], budget), strict=True)
        flat = torch.cat([torch.zeros(0), *(scores[i] for i in range(len(groups)))])
        return Scores.of_all(flat)

    def _against(self, groups: Sequence[Group], budget: int) -> list[Float[Tensor, " K"]]:
        """The mean over a row's references of the log-odds against each, both orders."""
        joints: list[Joint] = []
        shapes: list[tuple[int, int]] = []
        for group in groups:
            references = references_of(group.columns)
            texts = text_ids(self.language, group.prompt, [*group.responses, *references])
            ours, theirs = texts.answers[: len(group.responses)], texts.answers[len(group.responses) :]
            joints += [Joint(texts.source, a, b) for a in ours for b in theirs]
            shapes.append((len(ours), len(theirs)))
        odds = iter(self._odds(joints, budget).split([ours * theirs for ours, theirs in shapes]))
        return [next(odds).reshape(shape).mean(dim=1) for shape in shapes]

    def _matrix(self, groups: Sequence[Group], budget: int) -> list[Float[Tensor, " K"]]:
        """All pairs of a group, both orders."""
        texts = [text_ids(self.language, group.prompt, group.responses) for group in groups]
        cells = [[(i, j) for i in range(len(t.answers)) for j in range(len(t.answers)) if i != j] for t in texts]
        joints = [
            Joint(t.source, t.answers[i], t.answers[j]) for t, own in zip(texts, cells, strict=True) for i, j in own
        ]
        logits = iter(self._logits(joints, budget).tolist())
        scores = []
        for t, own in zip(texts, cells, strict=True):
            k = len(t.answers)
            matrix = torch.zeros(k, k)
            for i, j in own:
                matrix[i, j] = next(logits)
            # The mean over all K, itself among them: differences of scores are then log-odds, whatever K is.
            scores.append(matrix_scores(matrix) * ((k - 1) / max(k, 1)))
        return scores

    def _one_pass(self, groups: Sequence[Group], budget: int) -> list[Float[Tensor, " K"]]:
        """K − 1 pairs of a group, both orders."""
        texts = [text_ids(self.language, group.prompt, group.responses) for group in groups]
        full = [t for t in texts if t.answers]

        def compare(first: Int[Tensor, " B"], second: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
            chosen = zip(full, first.tolist(), second.tolist(), strict=True)
            return self._logits([Joint(t.source, t.answers[i], t.answers[j]) for t, i, j in chosen], budget)

        sizes = torch.tensor([len(t.answers) for t in full], dtype=torch.long)
        rows = iter(one_pass_scores(sizes, compare))
        return [next(rows)[: len(t.answers)] if t.answers else torch.zeros(0) for t in texts]

    def _odds(self, joints: Sequence[Joint], budget: int) -> Float[Tensor, " M"]:
        """Log-odds of first against second in which the position cancels."""
        there = self._logits(joints, budget)
        return unbiased_logit(there, self._logits([joint.swapped for joint in joints], budget))

    @torch.no_grad()
    def _logits(self, pairs: Sequence[Joint], budget: int) -> Float[Tensor, " M"]:
        parts = [self([pairs[i] for i in cut]).cpu() for cut in by_token_budget((p.num_tokens for p in pairs), budget)]
        return torch.cat([torch.zeros(0), *parts])

    def facts(self) -> dict[str, Any]:
        return {"aggregate": self.aggregate}

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """The backbone for transformers' AutoModel with the tokenizer that knows the markers, the head beside it."""
        super().save(folder, facts)
        head = {name: tensor.detach().cpu().contiguous() for name, tensor in self.head.state_dict().items()}
        save_file(head, folder / HEAD)
        readable(folder)


def text_ids(language: Language, prompt: Prompt, answers: Sequence[str], where: str = "") -> TextIds:
    """Ids of a prompt and its answers, without markers; a marker or separator that they spell is letters."""
    renderer = language.renderer
    if isinstance(renderer, PairRenderer):
        source = renderer.source_ids(prompt, where)
        written = [renderer.answer_ids(text) for text in answers]
    else:
        source = renderer.prompt_ids(prompt, where)
        source = source[1:] if renderer.bos is not None and source[0] == renderer.bos else source
        written = [renderer.response_ids(text, end=False, form=prompt.form) for text in answers]
    return TextIds(tuple(source), tuple(map(tuple, written)))


def frame(language: Language) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """What stands in front of an input, in front of each answer, and behind each of the three segments."""
    renderer = language.renderer
    if isinstance(renderer, PairRenderer):
        before = renderer.frame.before
        return before, before if language.texts_apart else (), renderer.frame.behind
    return (() if renderer.bos is None else (renderer.bos,)), (), ()


def overhead(language: Language) -> int:
    """Ids of an input that are none of its texts'."""
    before, between, behind = frame(language)
    return len(before) + 2 * len(between) + 3 * (1 + len(behind))


def fit(pair: Joint, room: int) -> Joint:
    """The three texts cut to `room` ids together. The source loses its beginning first, down to its share (or to what
    the answers leave); then the answers lose their ends, and what one doesn't need the other gets. Both orders of a
    pair are cut alike."""
    source, first, second = pair.source, pair.first, pair.second
    of_source = min(len(source), max(int(SOURCE_SHARE * room), room - len(first) - len(second)))
    left = room - of_source
    half = left // 2
    of_first = min(len(first), max(half, left - len(second)))
    of_second = min(len(second), max(half, left - len(first)))
    return Joint(source[len(source) - of_source :], first[:of_first], second[:of_second])


def check_backbone(config: ModelConfig) -> None:
    """UserError for a backbone that reads no pairs, or an option that would have no effect."""
    if architecture(config) == "encoder_decoder":
        raise UserError(f"model.path: {config.path!r} is an encoder-decoder; `objective: seq2seq` is for those")
    if config.pooling != "auto":
        raise UserError(f"model.pooling: {config.pooling!r} has no effect on a pair model, which reads its markers")


def load(
    config: ModelConfig, language: Language, *, aggregate: Aggregate | None = None, seed: int = 0
) -> PairRewardModel:
    """A saved pair model, PairRM as its authors saved it, or a new one on the backbone that `config` names; `aggregate`
    None: as it was saved."""
    check_backbone(config)
    facts = read_facts(config.path) if config.path != "tiny" else {}
    language = with_markers(language)
    decoder = architecture(config) == "decoder"
    bare = replace(config, train=Full(), activation_checkpointing=False)
    head: dict[str, Tensor] | None = None
    if pairrm.is_published(config):
        pairrm.check_markers(config, language, MARKERS)
        hf, head = pairrm.backbone_and_head(bare, seed)
    else:
        hf = load_backbone(bare, language, seed=seed).hf if decoder else encoder_backbone(bare, seed)
    embeddings = hf.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    if len(language.tokenizer) > embeddings.num_embeddings:
        with seeded(seed):
            hf.resize_token_embeddings(len(language.tokenizer), mean_resizing=False)
    loaded = finish(hf, language, config, seed)
    chosen = aggregate or facts.get("aggregate", "matrix")
    model = PairRewardModel(loaded, aggregate=chosen, decoder=decoder, seed=seed)
    if facts.get("kind") == KIND:
        head = _saved_head(config.path)
    if head is not None:
        try:
            model.head.load_state_dict(head)
        except RuntimeError as error:
            raise UserError(f"{config.path}: the pair head is damaged: {error}") from error
    return model


def _saved_head(path: str) -> dict[str, Tensor]:
    try:
        return load_file(file_beside(path, HEAD))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the pair head is damaged or missing: {error}") from error


def with_markers(language: Language) -> Language:
    """The language with the three markers as control tokens: where a text spells one it stays letters."""
    if language.renderer.controls >= set(MARKERS):
        return language
    tokenizer = copy.deepcopy(language.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": [*MARKERS]}, replace_extra_special_tokens=False)
    return replace(language, tokenizer=tokenizer, renderer=language.renderer.with_controls(tokenizer, MARKERS))


def _check_saved(config: ModelConfig, option: str) -> None:
    if pairrm.is_published(config):
        pairrm.check_markers(config, with_markers(load_language(config)), MARKERS, option)


SAVED = SavedKind(name=KIND, load=load, check=_check_saved, compares=lambda facts: True)
