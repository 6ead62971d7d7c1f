"""Which parameters are trained (N1.2): all of them, the last blocks, or low-rank adapters beside a frozen base.

The heads that plaudit adds (critic, reward) live outside the transformers model and are trained in every case; so is a
sequence classifier's own head, whatever the rule, because it starts from random numbers.
"""

import contextlib
import copy
import sys
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from plaudit.errors import UserError
from plaudit.models.options import Full, LastLayers, LoRA, Trainable
from plaudit.models.weights import HFModel

POLICY, CRITIC = "default", "critic"
"""peft's names of the policy's adapter and of the critic's own."""


def apply(hf_model: HFModel, config: Trainable, *, seed: int = 0) -> HFModel:
    """Make a transformers model train what `config` says, in place; for LoRA the peft model around it is returned.

    `seed`: of LoRA's first A matrices, drawn on the CPU by a generator of their own, the same on every device.
    Raises: UserError when the model has fewer blocks, or no matrix of a given name.
    """
    if config.kind == "lora":
        return cast(HFModel, _with_adapters(hf_model, config, seed))
    return freeze(hf_model, config)


def freeze(hf_model: HFModel, train: Full | LastLayers) -> HFModel:
    """Set `requires_grad` on every parameter by the rule, in place. Raises: UserError as `apply`."""
    hf_model.requires_grad_(train.kind == "full")
    if train.kind == "last_layers":
        stacks = _stacks(hf_model)
        blocks = hf_model.get_submodule(stacks[-1])
        assert isinstance(blocks, nn.ModuleList)
        if train.layers > len(blocks):
            raise UserError(f"last_layers.layers is {train.layers}, but the model has only {len(blocks)} blocks")
        blocks[len(blocks) - train.layers :].requires_grad_(True)
        before, after = _around(hf_model, stacks)
        for parameters, wanted in ((before, train.embeddings), (after, train.head)):
            for parameter in parameters:
                parameter.requires_grad_(wanted)
    for head in _classifier(hf_model):
        head.requires_grad_(True)
    return hf_model


def is_adapted(hf_model: nn.Module) -> TypeGuard[Any]:
    """Whether it is peft's. Importing peft takes a second: where nobody has, nothing is."""
    return "peft" in sys.modules and isinstance(hf_model, sys.modules["peft"].PeftModel)


def _layers(hf_model: nn.Module) -> list[Any]:
    """Its layers with adapters."""
    if "peft" not in sys.modules:
        return []
    from peft.tuners.lora import LoraLayer

    return [module for module in hf_model.modules() if isinstance(module, LoraLayer)]


def unwrapped(hf_model: HFModel) -> HFModel:
    """The transformers model itself, below a LoRA wrapper where there is one."""
    return cast(HFModel, hf_model.get_base_model()) if is_adapted(hf_model) else hf_model


def merge(hf_model: HFModel) -> HFModel:
    """A plain transformers model with the adapters multiplied into the weights, for saving and for engines.

    With LoRA it is a copy, and the training model goes on unchanged (memory: one more model; in half precision the sum
    is rounded). Without LoRA it is `hf_model` itself.
    """
    if not is_adapted(hf_model):
        return hf_model
    return copy.deepcopy(hf_model).merge_and_unload(safe_merge=True, adapter_names=[POLICY])


def save_alone(hf_model: HFModel, folder: Path) -> None:
    """The policy's adapter by itself, in peft's files; nothing without LoRA."""
    if not is_adapted(hf_model):
        return
    hf_model.save_pretrained(str(folder), selected_adapters=[POLICY], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's form to be filled in: the model has a card of its own


def add_critic(hf_model: HFModel, *, seed: int) -> None:
    """A second adapter of the same shape beside the policy's, on the same frozen base; `critic_on` lets it answer.
    TypeError when the model has no adapters."""
    if not is_adapted(hf_model):
        raise TypeError("only a model with LoRA adapters can carry the critic's")
    with _same_trained(hf_model), _quiet(hf_model):
        hf_model.add_adapter(CRITIC, copy.deepcopy(hf_model.peft_config[POLICY]))
    _draw(hf_model, seed, CRITIC)
    for parameter in critic_parameters(hf_model):
        parameter.requires_grad_(True)


def critic_parameters(hf_model: HFModel) -> list[nn.Parameter]:
    """The critic's own adapter; nothing where there is none."""
    return [p for name, p in hf_model.named_parameters() if CRITIC in name.split(".")]


def is_untouched(hf_model: HFModel) -> bool:
    """Whether the policy's adapter still adds nothing: of each pair of matrices the one that began as zeros."""
    layers = _layers(hf_model)
    zeros = [layer.lora_B[POLICY].get_parameter("weight") for layer in layers if POLICY in layer.lora_B]
    zeros += [layer.get_parameter(f"lora_embedding_A.{POLICY}") for layer in layers if POLICY in layer.lora_embedding_A]
    return not any(bool(matrix.any()) for matrix in zeros)


def answering(hf_model: HFModel) -> str:
    """Which adapter answers now; `policy` too where there is none."""
    layer = next(iter(_layers(hf_model)), None)
    return CRITIC if layer is not None and CRITIC in layer.active_adapters else POLICY


@contextlib.contextmanager
def critic_on(hf_model: HFModel) -> Generator[None]:
    """Inside the block the critic's adapter answers; what is trained stays trained (peft would freeze the other)."""
    layers = _layers(hf_model)
    before = [layer.active_adapters for layer in layers]
    with _same_trained(hf_model):
        for layer in layers:
            layer.set_adapter(CRITIC)
        try:
            yield
        finally:
            for layer, names in zip(layers, before, strict=True):
                layer.set_adapter(names)


@contextlib.contextmanager
def _same_trained(hf_model: HFModel) -> Generator[None]:
    """After the block the same parameters are trained as before: peft trains the active adapter alone."""
    trained = [(p, p.requires_grad) for p in hf_model.parameters()]
    try:
        yield
    finally:
        for parameter, flag in trained:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def base_off(hf_model: HFModel) -> Generator[HFModel]:
    """Inside the block the frozen base answers, its adapter switched off: the reference without a second copy.
    TypeError when the model has no adapters, because its "base" would be the policy itself."""
    if not is_adapted(hf_model):
        raise TypeError("only a model with LoRA adapters can answer as its own base")
    with _same_trained(hf_model), hf_model.disable_adapter():
        yield hf_model


def _stacks(hf_model: HFModel) -> list[str]:
    """Names of the lists of blocks, found by their length; an encoder-decoder has two, the decoder's last."""
    config = hf_model.config.get_text_config()
    depths = (getattr(config, name, None) for name in ("num_hidden_layers", "num_decoder_layers"))
    wanted = {depth for depth in depths if isinstance(depth, int)}
    stacks = [
        name for name, module in hf_model.named_modules() if isinstance(module, nn.ModuleList) and len(module) in wanted
    ]
    # A mixture of experts may have as many experts as blocks: lists inside a block are not the blocks.
    outer = [name for name in stacks if not any(name.startswith(f"{other}.") for other in stacks)]
    if not outer:
        raise UserError(
            f"train: last_layers finds no list of {sorted(wanted)} blocks in {type(hf_model).__name__}; "
            "use `full` or `lora`"
        )
    return outer


def _around(hf_model: HFModel, stacks: Sequence[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters before the first and after the last stack, as constructed; a tied matrix stands before them."""
    before: list[nn.Parameter] = []
    after: list[nn.Parameter] = []
    passed: set[str] = set()
    for name, parameter in hf_model.named_parameters():
        inside = next((stack for stack in stacks if name.startswith(f"{stack}.")), None)
        if inside is not None:
            passed.add(inside)
        elif not passed:
            before.append(parameter)
        elif stacks[-1] in passed:
            after.append(parameter)
    return before, after


HEADS = ("score", "classifier", "classification_head", "pre_classifier", "pooler", "head")


def _classifier(hf_model: HFModel) -> list[nn.Module]:
    """What a sequence or token classifier has beyond its backbone, an encoder's pooler too; [] for a language model."""
    if "Classification" not in type(hf_model).__name__:
        return []
    owners = (hf_model, getattr(hf_model, "base_model", hf_model))
    heads = [getattr(owner, name, None) for owner in owners for name in HEADS]
    return [head for head in heads if isinstance(head, nn.Module)]


def _with_adapters(hf_model: HFModel, config: LoRA, seed: int) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    names = _targets(hf_model, config.target_modules)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=names,
        # GPT-2 keeps its matrices transposed; peft wants to be told.
        fan_in_fan_out=all(isinstance(hf_model.get_submodule(name), Conv1D) for name in names),
    )
    with _quiet(hf_model):
        model = get_peft_model(hf_model, lora)
    _draw(model, seed, POLICY)
    for head in _classifier(hf_model):
        head.requires_grad_(True)
    return model


@contextlib.contextmanager
def _quiet(hf_model: HFModel) -> Generator[None]:
    """peft draws from the global generators, whose state is put back, and warns of what is right."""
    devices = sorted({p.device.index for p in hf_model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        # A model with both kinds of matrices: peft sets each layer right and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        # peft asks transformers by an old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _targets(hf_model: HFModel, wanted: Literal["all-linear"] | Sequence[str]) -> list[str]:
    """Full names of the matrices that get an adapter."""
    matrices = [n for n, m in hf_model.named_modules() if isinstance(m, nn.Linear | Conv1D | nn.Embedding)]
    if wanted == "all-linear":
        blocks = [n for n in matrices if isinstance(hf_model.get_submodule(n), nn.Linear | Conv1D)]
        heads = [hf_model.get_output_embeddings(), *_classifier(hf_model)]
        outside = {id(module) for head in heads if head is not None for module in head.modules()}
        return [n for n in blocks if id(hf_model.get_submodule(n)) not in outside]
    for name in wanted:
        if not any(_ends_in(matrix, name) for matrix in matrices):
            endings = sorted({matrix.rsplit(".", 1)[-1] for matrix in matrices})
            raise UserError(f"lora.target_modules: the model has no matrix {name!r}; it has {', '.join(endings)}")
    chosen = [n for n in matrices if any(_ends_in(n, name) for name in wanted)]
    _refuse_tied(hf_model, chosen)
    return chosen


def _ends_in(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _refuse_tied(hf_model: HFModel, chosen: Sequence[str]) -> None:
    """An adapter on one side of a tied matrix can't be merged: the other side would change too."""
    first, last = hf_model.get_input_embeddings(), hf_model.get_output_embeddings()
    if last is None or first.weight is not last.weight:
        return
    for name in chosen:
        if hf_model.get_submodule(name) in (first, last):
            raise UserError(
                f"lora.target_modules: {name!r} is tied to the other end's embeddings, so an adapter there can't be "
                "merged; leave it out"
            )


@torch.no_grad()
def _draw(model: nn.Module, seed: int, adapter: str) -> None:
    """A uniform in ±1/√(inputs), B zero (embeddings: A zero, B normal), as the paper's code and peft draw them."""
    generator = torch.Generator().manual_seed(seed)
    for module in _layers(model):
        if adapter in module.lora_A:
            matrix = module.lora_A[adapter]
            assert isinstance(matrix, nn.Linear)
            bound = matrix.in_features**-0.5
            matrix.weight.copy_((torch.rand(matrix.weight.shape, generator=generator) * 2 - 1) * bound)
        if adapter in module.lora_embedding_B:
            matrix = module.lora_embedding_B[adapter]
            matrix.copy_(torch.randn(matrix.shape, generator=generator))
