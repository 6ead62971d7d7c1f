"""Mistakes that people make, one each: the doctor finds it and names the option or row; without it, it says nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import processors
from torch import nn
from transformers import AutoTokenizer, LlamaForCausalLM

from plaudit.doctor.checks import CHECKS
from plaudit.doctor.findings import Severity
from plaudit.doctor.run import examine
from plaudit.models.policy import Reference
from tests.doctor.planted import Clinic, Plant
from tests.kills import kills
from tests.training.tiny import model_folder

PLANTS: dict[str, tuple[str, str, str]] = {}
"""Mistake → the check that finds it, what stands in `where`, words of the message."""
MAKERS: dict[str, Plant] = {}


def plant(check: str, where: str, words: str):
    def keep(make: Plant) -> Plant:
        PLANTS[make.__name__], MAKERS[make.__name__] = (check, where, words), make
        return make

    return keep


# ------------------------------------------------------------------------------------------------------------ options


@plant("learning-rate", "optim.learning_rate", "0.5 is above what trains a model this small")
def learning_rate_with_a_slipped_exponent(clinic):
    return clinic.sft(optim={"learning_rate": 5e-1})


@plant("steps", "minibatch_size", "64 rows a step, and the files have 40")
def minibatch_larger_than_the_data(clinic):
    return clinic.sft(minibatch_size=64)


@plant("steps", "prompts_per_iteration", "32 prompts an iteration, and the files have 24")
def more_prompts_an_iteration_than_there_are(clinic):
    return clinic.ppo(prompts_per_iteration=32)


@plant("sampling", "sampling.temperature", "by 0.3, and ")
def measured_at_another_temperature(clinic):
    policy = clinic.run_folder(clinic.ppo())
    return clinic.compare(clinic.held_out, policy, sampling={"max_new_tokens": 8, "temperature": 0.3})


@plant("precision", "device.precision", "bf16 is emulated")
def bf16_where_the_cpu_has_no_units_for_it(clinic):
    return clinic.sft(device={"device": "cpu", "precision": "bf16"})


# --------------------------------------------------------------------------------------------------------------- data


@plant("files", "held_out.0", "no such file")
def file_that_is_not_there(clinic):
    return clinic.sft(held_out=[{"path": str(clinic.folder / "gone.jsonl")}])


@plant("files", "data.0", "holds prompt rows, but demonstration or text rows")
def rows_of_another_kind(clinic):
    return clinic.sft(clinic.prompts)


@plant("columns", "prompts.0.columns", "nothing reads the column `keywords`; `keyword` would be read")
def column_with_a_slip_in_its_name(clinic):
    rows = [{**row, "keywords": "a"} for row in clinic.prompts]
    return clinic.ppo(rows, rewards=[clinic.rule("marked")])


@plant("columns", "data.0.columns", "nothing reads the column `margins`; `margin` would be read")
def margin_that_is_never_read(clinic):
    return clinic.reward([{**row, "margins": 2.0} for row in clinic.pairs])


@plant("repeats", "data.0", "160 of 200 rows repeat an earlier one")
def file_written_five_times(clinic):
    return clinic.sft(clinic.shown * 5)


@plant("repeats", "data.1", "40 rows of ")
def file_listed_twice(clinic):
    return clinic.sft(data=[{"path": clinic.file("shown.jsonl", clinic.shown)}] * 2)


@plant("leaks", "held_out.0", "3 of its prompts are also trained on, by this stage (data.0)")
def held_out_rows_that_are_trained_on(clinic):
    return clinic.sft(held_out=[{"path": clinic.file("aside.jsonl", clinic.shown[:3])}])


@plant("leaks", "prompts.0", "2 of its prompts are also trained on, by ")
def held_out_prompts_that_an_earlier_stage_trained_on(clinic):
    policy = clinic.run_folder(clinic.ppo())
    return clinic.compare([*clinic.held_out, *clinic.prompts[:2]], policy)


@plant("labels", "data.0", "40 of 40 rankings have one rank only")
def rankings_that_are_all_ties(clinic):
    rows = [{"prompt": r["prompt"], "responses": [r["chosen"], r["rejected"]], "ranks": [1, 1]} for r in clinic.pairs]
    return clinic.reward(rows)


@plant("labels", "data.0", "20 of 60 rows contradict themselves or an earlier one")
def chosen_and_rejected_swapped_in_one_of_two_files(clinic):
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in clinic.pairs[:20]]
    return clinic.reward(clinic.pairs + swapped)


@plant("labels", "data.0", "every label is True")
def verdicts_of_one_class(clinic):
    rows = [{"prompt": row["prompt"], "response": row["chosen"], "label": True} for row in clinic.pairs]
    return clinic.reward(rows, objective="two_class")


# ------------------------------------------------------------------------------------------------------------- tokens


def with_tokenizer(clinic: Clinic, change) -> str:
    folder = model_folder(clinic.folder / "changed", letters="abcdefgh", spread=0.3, context=48)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


@plant("end-token", "model.end_tokens", "no token ends an answer")
def template_without_an_end_token(clinic):
    folder = with_tokenizer(clinic, lambda tokenizer: setattr(tokenizer, "eos_token", None))
    for name in ("config.json", "generation_config.json"):
        path = Path(folder) / name
        facts = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**facts, "eos_token_id": None}), "utf-8")
    return clinic.sft(model={"path": folder})


@plant("end-token", "shown.jsonl:1", "40 of 40 answers are cut before their end token")
def end_token_that_truncation_takes_away(clinic):
    rows = [{**row, "completion": row["completion"] * 4} for row in clinic.shown]
    return clinic.sft(rows, max_length=12, too_long="truncate")


@plant("end-token", "sampling.max_new_tokens", "3 tokens end before 40 of 40 demonstrated answers do")
def end_token_out_of_the_limits_reach(clinic):
    policy = clinic.run_folder(clinic.sft())
    return clinic.ppo(model={"path": policy}, sampling={"max_new_tokens": 3})


@plant("bos", "prompts.jsonl:1", "the prompt has 2 BOS tokens <s> instead of one")
def doubled_bos(clinic):
    return clinic.ppo([{"prompt": f"ab<s>{row['prompt']}", "prompt_rendered": True} for row in clinic.prompts])


@plant("controls", "shown.jsonl:1", "40 of 40 rows spell control tokens (</s>)")
def end_token_spelled_in_the_answers(clinic):
    return clinic.sft([{**row, "completion": row["completion"] + "</s>"} for row in clinic.shown])


@plant("template", "prompts.0", "this prompt is a conversation, but the tokenizer has no chat template")
def conversations_without_a_chat_template(clinic):
    return clinic.ppo([{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in clinic.prompts])


@plant("template", "model.chat_template", "was trained with another chat template")
def another_chat_template_than_in_training(clinic):
    (Path(clinic.model) / "plaudit.json").write_text('{"kind": "policy", "template_hash": "0123456789abcdef"}', "utf-8")
    return clinic.ppo()


@plant("stop-strings", "sampling.stop", "24 prompts have the stop string 'gh' right before the answer")
def stop_string_at_the_prompts_end(clinic):
    rows = [{"prompt": row["prompt"] + "gh"} for row in clinic.prompts]
    return clinic.ppo(rows, sampling={"max_new_tokens": 8, "stop": ["gh"]})


@plant("lengths", "sampling.max_new_tokens", "4 tokens and 46 new ones exceed the context of 48")
def context_shorter_than_prompt_and_answer(clinic):
    return clinic.ppo(sampling={"max_new_tokens": 46})


@plant("lengths", "max_length", "40 of 40 rows are longer than 6 tokens and will be dropped")
def most_rows_dropped_for_their_length(clinic):
    return clinic.sft(max_length=6, too_long="drop")


@plant("vocabulary", "shown.jsonl:1", "are <unk>: the tokenizer can't write this text")
def script_that_the_tokenizer_does_not_know(clinic):
    return clinic.sft([{**row, "completion": "你好"} for row in clinic.shown])


# ------------------------------------------------------------------------------------------------------------- judges


@plant("judge-answers", "rewards.0", "on an empty answer: ")
def judge_that_stumbles_over_empty_answers(clinic):
    return clinic.ppo(rewards=[clinic.rule("fragile")])


@plant("judge-answers", "rewards.0", "on other scripts: ")
def judge_that_knows_one_script(clinic):
    return clinic.ppo(rewards=[clinic.rule("english")])


@plant("judge-answers", "rewards.0", "on a very long answer: ")
def judge_of_infinite_scores(clinic):
    return clinic.ppo(rewards=[clinic.rule("infinite")])


@plant("judge-answers", "rewards.0", "'slow' takes 0.26 s an answer")
def slow_judge(clinic):
    return clinic.ppo(prompts_per_iteration=2, rewards=[clinic.rule("slow")])


@plant("judge-alone", "rewards.0", "'centred' gives ")
def judge_that_looks_at_its_batch(clinic):
    return clinic.ppo(rewards=[clinic.rule("centred")])


@plant("judge-alone", "rewards.0", "'padded' gives ")
def judge_that_counts_padding(clinic):
    return clinic.ppo(rewards=[clinic.rule("padded")])


@plant("judge-varies", "rewards.0", "answers 1: there is nothing to learn")
def judge_that_says_one_thing(clinic):
    return clinic.ppo(rewards=[clinic.rule("constant")])


@plant("score-scale", "kl.coef", "nothing holds the policy near its start")
def kl_coef_a_hundred_times_too_small(clinic):
    return clinic.ppo(shaping={}, kl={"coef": 0.0005})


@plant("score-scale", "kl.coef", "the KL's price outweighs what can be won")
def kl_coef_a_hundred_times_too_large(clinic):
    return clinic.ppo(kl={"coef": 20.0})


@plant("score-scale", "rewards", "a new critic expects 0")
def scores_far_from_zero(clinic):
    return clinic.ppo(rewards=[clinic.rule("offset")], shaping={})


@plant("starts", "rewards.0.path", "is no reward model but a language model")
def language_model_as_judge(clinic):
    return clinic.ppo(rewards=[{"kind": "model", "path": clinic.model}])


@plant("files", "prompts.0", "prompts.jsonl:1: column `solution`")
def references_that_are_empty(clinic):
    rows = [{**row, "solution": []} for row in clinic.prompts]
    return clinic.ppo(rows, rewards=[{"kind": "function", "function": "exact_match"}])


# ------------------------------------------------------------------------------------------------------------- models


@plant("starts", "critic.init", "has another tokenizer than the policy")
def critic_of_another_tokenizer(clinic):
    return clinic.ppo(critic={"kind": "separate", "init": model_folder(clinic.folder / "other", letters="xyz")})


@plant("weights", "model.path", "hold NaN or infinity")
def weights_that_are_no_numbers(clinic):
    def poison(participants):
        participants.actor.policy.inner.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
        return participants

    return changed_ppo(clinic, poison)


def changed_ppo(clinic: Clinic, change, **options):
    """PPO whose participants are not what the config makes of itself."""
    examined = clinic.ppo(**options)
    return clinic.stage("ppo", clinic_plain(examined), change(examined.participants))


def clinic_plain(examined):
    from plaudit.config.types import to_plain

    return to_plain(examined.config)


@plant("weights", "model.train", "no parameter of the model is trained")
def adapters_without_a_trained_parameter(clinic):
    def freeze(participants):
        for name, parameter in participants.actor.named_parameters():
            parameter.requires_grad_("value_head" in name)
        return participants

    return changed_ppo(clinic, freeze, model={"path": clinic.model, "train": {"kind": "lora", "rank": 2}})


def wake(participants):
    layer = participants.actor.policy.inner.model.layers[0]
    layer.mlp = nn.Sequential(layer.mlp, nn.Dropout(0.3)).train()
    return participants


@plant("first-ratio", "model.path", "two passes of the policy over the same tokens differ")
def dropout_in_the_policy(clinic):
    return changed_ppo(clinic, wake)


@plant("first-kl", "model.path", "policy and reference before the first step differ")
def reference_that_is_not_the_start(clinic):
    def other(participants):
        folder = model_folder(clinic.folder / "later", letters="abcdefgh", spread=0.3, context=48, seed=1)
        reference = LlamaForCausalLM.from_pretrained(folder)
        return replace(participants, reference=Reference(participants.actor.policy, reference))

    return changed_ppo(clinic, other)


@plant("engine", "sampling.temperature", "sampler and trainer differ")
def sampler_at_another_temperature(clinic):
    class Warm:
        def __init__(self, engine):
            self.engine = engine

        def generate(self, prompts, keys, sampling, *, seed, **more):
            return self.engine.generate(prompts, keys, replace(sampling, temperature=0.5), seed=seed, **more)

    return changed_ppo(clinic, lambda participants: replace(participants, engine=Warm(participants.engine)))


@plant("endings", "sampling.max_new_tokens", "100% of 16 answers are cut by the limit of 2 tokens")
def policy_that_never_ends(clinic):
    letters = "abcdefgh" + "".join(chr(0x4E00 + i) for i in range(400))  # one in 411 ends an answer
    model = model_folder(clinic.folder / "wordy", letters=letters, spread=0.0, context=48)
    return clinic.ppo(prompts_per_iteration=16, model={"path": model}, sampling={"max_new_tokens": 2})


# ---------------------------------------------------------------------------------------------------------- resources


@plant("disk", "save_every", "checkpoints and models take")
def disk_too_small_for_the_checkpoints(clinic):
    return clinic.sft()


@plant("memory", "microbatch_tokens", "a step takes")
def memory_too_small_for_a_step(clinic):
    return clinic.sft()


@plant("resume", "save_every", "differ in")
def dropout_that_a_resumed_run_draws_anew(clinic):
    return changed_ppo(clinic, wake)


# ---------------------------------------------------------------------------------------------------------- the tests


@pytest.fixture
def clinic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Clinic(tmp_path)


@kills("doctor/checks/config.py", old="usual.low <= optim.learning_rate <= usual.high", new="True", why="any rate goes")
@kills("doctor/checks/policy.py", old="if not apart <= limit:", new="if apart <= limit:", why="agreement is the fault")
@kills(
    "doctor/checks/judge.py", old="yield error(option,", new="yield note(option,", why="a judge that fails is a note"
)
@kills(
    "doctor/rehearsal.py", old='ignore_patterns("000002",', new='ignore_patterns("000001",', why="nothing is resumed"
)
@kills("doctor/checks/data.py", old="if not leaking:", new="if leaking:", why="leaks pass, others don't")
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_mistake_is_found_and_named(name, clinic, monkeypatch):
    check, where, words = PLANTS[name]
    if name.startswith("bf16"):
        monkeypatch.setattr("plaudit.doctor.checks.resources.computes_bf16", lambda machine: False)
    if name.startswith("disk"):
        monkeypatch.setattr("plaudit.doctor.checks.resources.free_bytes", lambda path: 1000)
    if name.startswith("memory"):
        monkeypatch.setattr("plaudit.doctor.checks.resources.total_memory_bytes", lambda machine: 1000)
    diagnosis = examine(MAKERS[name](clinic), [one for one in CHECKS if one.name == check])
    matching = [one for one in diagnosis.faults if one.check == check and words in one.message]
    assert matching, (diagnosis.findings, diagnosis.not_run)
    assert matching[0].where.endswith(where)
    assert matching[0].remedy or matching[0].level is Severity.ERROR


@kills(
    "doctor/run.py", old="one.level.rank <= max(causes, default=-1)", new="False", why="a cause is said several times"
)
@pytest.mark.parametrize(
    "name",
    [
        "weights_that_are_no_numbers",
        "policy_that_never_ends",
        "verdicts_of_one_class",
        "end_token_that_truncation_takes_away",
        "doubled_bos",
    ],
)
def test_a_mistake_is_said_once_and_not_again_by_what_follows_from_it(name, clinic):
    stage = MAKERS[name](clinic)
    fault, *more = examine(stage, [check for check in CHECKS if stage.kind in check.stages]).faults
    assert more == []
    assert fault.check == PLANTS[name][0] and PLANTS[name][2] in fault.message


def test_a_turn_token_that_is_named_bos_is_no_doubled_one(clinic):
    """ChatML's <|im_start|>, which SmolLM's tokenizer calls its BOS and puts in front of nothing."""

    def chat(tokenizer):
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        tokenizer.chat_template = (
            "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"
        )

    stage = clinic.ppo(model={"path": with_tokenizer(clinic, chat)})
    assert stage.language.renderer.prompt_ids(stage.rows(stage.uses[0])[0].prompt).count(0) == 2
    assert examine(stage, [one for one in CHECKS if one.name == "bos"]).faults == []


def test_a_pad_token_that_is_the_end_token_is_no_mistake_here(clinic):
    """Masks come from lengths, so that the end token is learned all the same."""
    stage = clinic.sft(model={"path": with_tokenizer(clinic, lambda t: setattr(t, "pad_token", t.eos_token))})
    assert stage.language.tokenizer.pad_token_id == stage.language.tokenizer.eos_token_id
    assert examine(stage, [one for one in CHECKS if one.name in ("end-token", "controls", "starts")]).faults == []
    assert stage.participants.mixture.examples[0][1][-1] in stage.language.end_ids


def test_a_file_that_is_trained_on_and_measured_on_is_not_told_to_lose_its_rows(clinic):
    stage = clinic.sft(held_out=[{"path": clinic.file("shown.jsonl", clinic.shown)}])
    (fault,) = examine(stage, [one for one in CHECKS if one.name == "leaks"]).faults
    assert fault.remedy == "give held_out.0 a file with other prompts"


def test_there_are_thirty():
    assert len(PLANTS) >= 30


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "compare"])
def test_nothing_is_said_of_a_sound_stage(kind, clinic):
    made = {
        "sft": lambda: clinic.sft(),
        "reward": lambda: clinic.reward(),
        "ppo": lambda: clinic.ppo(),
        "compare": lambda: clinic.compare(clinic.held_out, clinic.run_folder(clinic.ppo())),
    }
    diagnosis = examine(made[kind](), [check for check in CHECKS if kind in check.stages])
    assert diagnosis.faults == []
    assert diagnosis.not_run == ()
    assert torch.is_grad_enabled()
