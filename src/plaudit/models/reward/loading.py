"""A saved reward model by its folder: plaudit.json says the kind; without one it is what the architecture says."""

from plaudit.models.checkpoint import read_facts
from plaudit.models.load import ModelConfig, check_model_path, is_classifier, load_language
from plaudit.models.reward import scalar
from plaudit.models.reward.protocol import RewardModel
from plaudit.runs.errors import UserError


def check_reward_folder(path: str, option: str) -> None:
    """Before any model loads: UserError naming `option` for a folder that is no reward model.

    A language model's folder would get a head of random weights and judge by noise.
    """
    check_model_path(path, option=option)
    if path == "tiny" or (not read_facts(path).get("kind") and not is_classifier(ModelConfig(path=path))):
        raise UserError(f"{option}: {path!r} is no reward model but a language model without a trained reward head")
    if (kind := kind_of(path)) == "policy":
        raise UserError(f"{option}: {path!r} is no reward model but a policy")
    elif kind not in KINDS:
        raise UserError(f"{option}: {path!r} is a reward model of the kind {kind!r}; this plaudit knows {KINDS}")


KINDS = ("scalar",)


def kind_of(path: str) -> str:
    """`scalar` and its siblings, one file each beside this one."""
    return str(read_facts(path).get("kind") or scalar.KIND)


def load_reward_model(config: ModelConfig) -> RewardModel:
    """The model in its folder, on the CPU, ready to score. UserError for a kind that this plaudit doesn't know."""
    check_reward_folder(config.path, "path")
    language = load_language(config)
    match kind_of(config.path):
        case scalar.KIND:
            return scalar.load(config, language)
        case kind:
            raise UserError(f"{config.path}: a reward model of kind {kind!r}, which this plaudit doesn't know")
