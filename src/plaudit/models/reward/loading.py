"""A saved reward model by its folder: plaudit.json says the kind; without one it is what the architecture says, or the
user (`read_as`): a SteamSHP from elsewhere looks like any other T5."""

from dataclasses import replace

from plaudit.errors import UserError
from plaudit.models.beside import read_facts
from plaudit.models.foreign import stored_scale, value_head
from plaudit.models.load import (
    architecture,
    check_model_path,
    is_classifier,
    label_names,
    load_language,
    number_of_labels,
)
from plaudit.models.options import ModelConfig, ReadAs
from plaudit.models.reward import aspects, gated, pair, pairrm, scalar, seq2seq, shared_trunk, token_level, two_class
from plaudit.models.reward.normalisation import of_facts
from plaudit.models.reward.protocol import REFERENCES, RewardModel, SavedKind
from plaudit.telemetry.console import say
from plaudit.tokens.template import Renderer

MODULES = (scalar, two_class, aspects, gated, token_level, shared_trunk, pair, seq2seq)
KINDS: dict[str, SavedKind] = {module.SAVED.name: module.SAVED for module in MODULES}
"""By the name in plaudit.json."""


def check_reward_model(config: ModelConfig, option: str, read_as: ReadAs = "auto") -> None:
    """Before any model loads: UserError naming `option` for a folder or hub name that is no reward model.

    A language model's folder would get a head of random weights and judge by noise.
    """
    path = config.path
    check_model_path(path, option=option)
    no_judge = f"{option}: {path!r} is no reward model but a language model without a trained reward head"
    if path == "tiny":
        raise UserError(no_judge)
    is_judge = is_classifier(config, option) or pairrm.is_published(config) or value_head(path) is not None
    stored = read_facts(path).get("kind")
    if read_as != "auto":
        if stored not in (None, read_as):
            raise UserError(f"{option}: {path!r} is a model of kind {stored!r}, which can't be read as a {read_as!r}")
    elif stored == "policy" or not (stored or is_judge):
        if not stored and architecture(config) == "encoder_decoder":
            no_judge += "; if it was trained to choose between A and B, as SteamSHP was, say `read_as: seq2seq`"
        raise UserError(no_judge)
    saved_kind(config, read_as, option).check(config, option)


def saved_kind(config: ModelConfig, read_as: ReadAs = "auto", option: str = "path") -> SavedKind:
    """Of a folder's reward model. UserError naming `option` for a kind that nobody here knows."""
    name = kind_of(config, read_as)
    if name not in KINDS:
        known = ", ".join(KINDS)
        raise UserError(f"{option}: {config.path!r} is a reward model of kind {name!r}; this plaudit knows {known}")
    return KINDS[name]


def kind_of(config: ModelConfig, read_as: ReadAs = "auto") -> str:
    """`scalar` or one of its siblings, a file each beside this one; of a classifier that plaudit did not write, what
    its number of labels says."""
    if read_as != "auto":
        return read_as
    if kind := read_facts(config.path).get("kind"):
        return str(kind)
    if pairrm.is_published(config):
        return pair.KIND
    if not is_classifier(config) and value_head(config.path) is not None:
        return shared_trunk.KIND
    labels = number_of_labels(config)
    return scalar.KIND if labels == 1 else two_class.KIND if labels == 2 else aspects.KIND


def needed_columns(config: ModelConfig, read_as: ReadAs = "auto") -> tuple[str, ...]:
    """Data columns without which the model can't judge a lone answer."""
    return (REFERENCES,) if saved_kind(config, read_as).compares(read_facts(config.path)) else ()


def has_scale(config: ModelConfig, read_as: ReadAs = "auto") -> bool:
    """Whether differences of its scores can be read as log-odds; those of probabilities can't."""
    return saved_kind(config, read_as).has_scale(read_facts(config.path))


def load_reward_model(config: ModelConfig, read_as: ReadAs = "auto", option: str = "path") -> RewardModel:
    """The model in its folder with its normalisation, on the CPU. UserError naming `option` for a kind that nobody here
    knows, and for weights that won't do."""
    check_reward_model(config, option, read_as)
    language, facts = load_language(config), read_facts(config.path)
    if not facts and isinstance(language.renderer, Renderer):
        language = replace(language, renderer=language.renderer.with_whole_turns())
    if not facts and (kind := kind_of(config, read_as)) in (two_class.KIND, aspects.KIND):
        names = label_names(config)
        score = "their mean" if kind == aspects.KIND else f"the log-odds of {names[1]}"
        say(
            f"{config.path}: a head of {len(names)} numbers ({', '.join(names)}); the score is {score}. To choose, "
            f'write plaudit.json beside it: {{"kind": "aspects", "aspects": [{{"name": …, "weight": …}}, …]}}'
        )
    try:
        model = saved_kind(config, read_as).load(config, language)
    except UserError as error:
        raise UserError(str(error).replace("model.path: ", f"{option}: ", 1)) from error
    if not facts and (scale := stored_scale(config.path)):
        say(
            f"{config.path}: config.json holds mean {scale[0]:g} and std {scale[1]:g} of its scores, by which OpenRLHF "
            "normalises on request; here they stay as the head says them (shaping.normalise brings them to one scale)"
        )
    model.normalisation = of_facts(facts, config.path)
    return model
