"""What a name that is no option may have meant: a misspelt one, one of a group, or what another tool calls it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from plaudit.config.explain import describe

_ELSEWHERE = {
    "learning_rate": "lr actor_lr actor_learning_rate policy_lr",
    "kl.coef": "beta kl_beta init_kl_coef init_kl_coeff kl_coeff kl_penalty kl_weight",
    "objective.clip_range": "cliprange clip_ratio clip_eps eps_clip epsilon clip_epsilon",
    "value_clip_range": "cliprange_value value_clip value_clip_ratio",
    "value_coef": "vf_coef value_loss_coef",
    "advantage.gae_lambda": "lam lambd lambda gae_lam",
    "entropy_coef": "ent_coef entropy_coeff",
    "epochs": "num_epochs n_epochs max_epochs num_train_epochs num_ppo_epochs ppo_epochs",
    "iterations": "max_steps num_steps total_steps num_episodes total_episodes total_ppo_epochs num_iterations",
    "minibatches": "num_mini_batches num_minibatches",
    "minibatch_size": "batch_size train_batch_size per_device_train_batch_size mini_batch_size",
    "prompts_per_iteration": "batch_size train_batch_size rollout_batch_size num_prompts",
    "microbatch_tokens": "gradient_accumulation_steps micro_batch_size micro_train_batch_size",
    "samples_per_prompt": "num_generations n_samples_per_prompt num_return_sequences rollout_n",
    "samples": "num_generations n_samples_per_prompt num_return_sequences k",
    "max_new_tokens": "response_length max_tokens max_completion_length max_response_length max_gen_len",
    "max_length": "max_seq_length max_seq_len seq_length max_len cutoff_len block_size",
    "stop": "stop_strings stop_sequences stop_token eos",
    "optim.warmup_fraction": "warmup_ratio warmup_steps lr_warmup_steps",
    "optim.schedule": "lr_scheduler lr_scheduler_type scheduler",
    "optim.eps": "adam_epsilon",
    "optim.betas": "adam_beta1 adam_beta2 adam_betas",
    "optim.max_grad_norm": "grad_clip gradient_clipping clip_grad_norm max_norm",
    "model.activation_checkpointing": "gradient_checkpointing",
    "device.precision": "bf16 fp16 dtype torch_dtype mixed_precision",
    "model.train.rank": "lora_r lora_rank r",
    "model.train.alpha": "lora_alpha",
    "model.train.target_modules": "lora_target_modules lora_target",
    "model.train": "use_peft use_lora peft_config lora finetuning_type",
    "evaluate_every": "eval_steps eval_every eval_interval logging_steps",
    "save_every": "save_steps save_interval save_freq",
    "model.path": "model_name model_name_or_path base_model pretrain sft_model_path policy_model",
    "rewards": "reward reward_model reward_model_path reward_pretrain reward_funcs reward_function",
    "prompts": "dataset dataset_name train_dataset train_file prompt_data data",
    "data": "dataset dataset_name train_dataset train_file train_files datasets",
    "held_out": "eval_dataset eval_data val_files validation_file test_file",
    "held_out_fraction": "val_size test_size eval_split",
    "--out on the command line": "out output_dir save_path logging_dir run_folder",
    "--sink on the command line": "sink report_to use_wandb use_tensorboard logger",
}
"""Ours, and what TRL, OpenRLHF, verl, LLaMA-Factory and transformers call it."""


_NOT_THERE = {
    **dict.fromkeys(
        ("top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size", "num_beams"),
        "answers are drawn from the whole distribution, the one that is trained; sampling.temperature flattens it",
    ),
    "label_smoothing": "labels are taken as they are",
}
"""What other tools have, and why it isn't here."""


def missing_here(key: str) -> str:
    """Why there is no such option, of one that other tools have; empty for all others."""
    return _NOT_THERE.get(key.replace("-", "_").lower(), "")


def meant(key: str, cls: type) -> str:
    """The option of `cls`, dotted, that a key most likely means; empty where none is near."""
    names = list(dict.fromkeys(option.name.removesuffix(".kind").replace(".N.", ".0.") for option in describe(cls)))
    own = list(dict.fromkeys(name.split(".")[0] for name in names))
    plain = key.replace("-", "_").lower()
    if one := _of_a_group(plain, names):
        return one
    if near := difflib.get_close_matches(plain, own, n=1, cutoff=0.75):
        return near[0]
    for ours in (ours for ours, theirs in _ELSEWHERE.items() if plain in theirs.split()):
        if one := ours if ours.startswith("--") else _of_a_group(ours, names):
            return one
    ends: dict[str, str] = {}
    for name in sorted(names, key=lambda one: one.count(".")):  # of two that end alike the outer one is meant
        for form in (name.replace(".", "_"), name.rpartition(".")[2]):
            ends.setdefault(form, name)
    near = difflib.get_close_matches(plain, ends, n=1, cutoff=0.8) if len(plain) > 3 else []
    return ends[near[0]] if near else next(iter(difflib.get_close_matches(plain, own, n=1, cutoff=0.65)), "")


def _of_a_group(wanted: str, names: Sequence[str]) -> str:
    """The first name that ends with the parts of `wanted`, or that is it with underscores for dots."""
    fits = (name for name in names if f".{name}".endswith(f".{wanted}") or name.replace(".", "_") == wanted)
    return next(fits, "")
