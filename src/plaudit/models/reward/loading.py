"""A saved reward model by its folder: plaudit.json says the kind; without one it is what the architecture says, or the
user (`read_as`): a SteamSHP from elsewhere looks like any other T5."""

from collections.abc import Callable

from plaudit.errors import UserError
from plaudit.models.checkpoint import read_facts
from plaudit.models.load import Language, architecture, check_model_path, is_classifier, load_language, number_of_labels
from plaudit.models.options import ModelConfig, ReadAs
from plaudit.models.reward import aspects, gated, pair, pairrm, scalar, seq2seq, shared_trunk, token_level, two_class
from plaudit.models.reward.normalisation import of_facts
from plaudit.models.reward.protocol import RewardModel
from plaudit.models.reward.references import REFERENCES

KINDS: dict[str, Callable[[ModelConfig, Language], RewardModel]] = {
    scalar.KIND: scalar.load,
    two_class.KIND: two_class.load,
    aspects.KIND: aspects.load,
    gated.KIND: gated.load,
    token_level.KIND: token_level.load,
    shared_trunk.KIND: shared_trunk.load,
    pair.KIND: pair.load,
    seq2seq.KIND: seq2seq.load,
}
"""Every kind's name in plaudit.json, and who loads it."""


def check_reward_model(config: ModelConfig, option: str, read_as: ReadAs = "auto") -> None:
    """Before any model loads: UserError naming `option` for a folder or hub name that is no reward model.

    A language model's folder would get a head of random weights and judge by noise.
    """
    path = config.path
    check_model_path(path, option=option)
    no_judge = f"{option}: {path!r} is no reward model but a language model without a trained reward head"
    if path == "tiny":
        raise UserError(no_judge)
    is_judge = is_classifier(config, option) or pairrm.is_published(config)
    stored = read_facts(path).get("kind")
    if read_as != "auto":
        if stored not in (None, read_as):
            raise UserError(f"{option}: {path!r} is a model of kind {stored!r}, which can't be read as a {read_as!r}")
    elif stored == "policy" or not (stored or is_judge):
        may_compare = not stored and architecture(config) == "encoder_decoder"
        hint = (
            "; if it was trained to choose between A and B, as SteamSHP was, say `read_as: seq2seq`"
            if may_compare
            else ""
        )
        raise UserError(no_judge + hint)
    kind = kind_of(config, read_as)
    if kind not in KINDS:
        raise UserError(f"{option}: {path!r} is a reward model of kind {kind!r}; this plaudit knows {', '.join(KINDS)}")
    _check_words(config, kind, option)


def _check_words(config: ModelConfig, kind: str, option: str) -> None:
    """What kinds ask of a tokenizer, which loads in moments."""
    if kind == seq2seq.KIND:
        seq2seq.check_backbone(config, option)
        seq2seq.letter_ids(load_language(config), f"{option}: {config.path!r}: ")
    if kind == pair.KIND and pairrm.is_published(config):
        language = pair.with_markers(load_language(config))
        pairrm.check_markers(config, language, pair.MARKERS, option)


def kind_of(config: ModelConfig, read_as: ReadAs = "auto") -> str:
    """`scalar` or one of its siblings, a file each beside this one; of a classifier that plaudit did not write, what
    its number of labels says."""
    if read_as != "auto":
        return read_as
    if kind := read_facts(config.path).get("kind"):
        return str(kind)
    if pairrm.is_published(config):
        return pair.KIND
    labels = number_of_labels(config)
    return scalar.KIND if labels == 1 else two_class.KIND if labels == 2 else aspects.KIND


def needed_columns(config: ModelConfig, read_as: ReadAs = "auto") -> tuple[str, ...]:
    """Data columns without which the model can't judge a lone answer."""
    kind, against = kind_of(config, read_as), read_facts(config.path).get("against")
    compares = kind == pair.KIND or (kind == seq2seq.KIND and against == "references")
    return (REFERENCES,) if compares else ()


def has_scale(config: ModelConfig, read_as: ReadAs = "auto") -> bool:
    """Whether differences of its scores can be read as log-odds; those of probabilities can't."""
    is_probability = read_facts(config.path).get("output", "probability") == "probability"
    return not (kind_of(config, read_as) == seq2seq.KIND and is_probability)


def load_reward_model(config: ModelConfig, read_as: ReadAs = "auto") -> RewardModel:
    """The model in its folder with its normalisation, on the CPU. UserError for a kind that nobody here knows."""
    check_reward_model(config, "path", read_as)
    model = KINDS[kind_of(config, read_as)](config, load_language(config))
    model.normalisation = of_facts(read_facts(config.path), config.path)
    return model
