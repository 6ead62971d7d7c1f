"""Generation by a vLLM server: what is asked of it, weights that arrive, and what goes wrong; the real one in
test_vllm_server.py."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from plaudit.engines import vllm_engine
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig, VllmHttpConfig
from plaudit.engines.vllm_engine import VllmEngine
from plaudit.engines.vllm_server import FLAGS, VllmServer, command
from plaudit.errors import StopRequested, UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.hardware.ranks import Ranks
from plaudit.models.adapters import apply
from plaudit.models.load import Language, load_causal, load_language
from plaudit.models.options import LoRA, ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.records.text import FinishReason
from plaudit.tokens.batches import pack
from tests.engines.fake_vllm import FakeVllm
from tests.faults.stages import train
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.tiny import metrics, model_folder

PROMPTS = [[3, 4], [3, 4], [5], [3, 4]]
KEYS = [SampleKey(prompt_id="a", sample_index=0), SampleKey(prompt_id="a", sample_index=1),
        SampleKey(prompt_id="b", sample_index=0), SampleKey(prompt_id="c", sample_index=0)]  # fmt: skip
SAMPLING = SamplingConfig(max_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return model_folder(tmp_path_factory.mktemp("vllm") / "policy", letters="abc", spread=0.5)


@pytest.fixture
def fake(folder) -> Iterator[FakeVllm]:
    fake = FakeVllm(folder)
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


def policy(folder: str) -> tuple[Trunk, Language]:
    chosen = ModelConfig(path=folder)
    language = load_language(chosen)
    return Trunk(load_causal(chosen, language, seed=0).hf), language


def engine(fake: FakeVllm, folder: str, **options) -> VllmEngine:
    chosen = VllmHttpConfig(url=fake.url, **{"answer_seconds": 20.0} | options)
    trunk, language = policy(folder)
    made = build_engine(trunk, language, chosen)
    assert isinstance(made, VllmEngine)
    return made


def largest_gap(one: VllmEngine, written, temperature: float = 1.0) -> float:
    batch = pack(PROMPTS, [g.ids for g in written])
    with torch.no_grad():
        own = one.trunk(batch, {"logprobs"}, temperature)["logprobs"][batch.response_mask]
    return float((own - torch.tensor([x for g in written for x in g.logprobs])).abs().max())


# ----------------------------------------------------------------------------------------------------- what is written


@kills(
    "engines/vllm_engine.py",
    old='"temperature": 0.0 if greedy else sampling.temperature,',
    new='"temperature": 0.0 if greedy else 1.0,',
    why="sampling at another temperature than PPO's log-probs",
)
@kills(
    "engines/vllm_engine.py",
    old="yield prompt, len(several), several[0]",
    new="yield prompt, 1, several[0]",
    why="one answer where several were asked for",
)
@kills(
    "engines/vllm_engine.py",
    old='key=lambda choice: choice["index"]',
    new='key=lambda choice: -choice["index"]',
    why="answers to one prompt in another order than their keys",
)
def test_answers_are_the_policys_and_their_seeds_those_of_the_rows(fake, folder):
    one = engine(fake, folder)
    written = one.generate(PROMPTS, KEYS, replace(SAMPLING, temperature=0.7), seed=3)
    assert largest_gap(one, written, 0.7) < 1e-5
    asked = fake.requests[-3:]
    assert max((a["n"], a["prompt"]) for a in asked) == (2, [3, 4])
    assert all(a["logprobs"] == 0 and a["top_p"] == 1.0 and a["top_k"] == 0 for a in asked)
    again = one.generate(PROMPTS, KEYS, replace(SAMPLING, temperature=0.7), seed=3)
    assert [g.ids for g in again] == [g.ids for g in written]
    whole = next(a for a in asked if a["n"] == 2)
    assert [tuple(fake.write(whole, i)["token_ids"]) for i in range(2)] == [g.ids for g in written[:2]]
    assert len({a["seed"] for a in asked}) == 3
    other = one.generate(PROMPTS, KEYS, replace(SAMPLING, temperature=0.7), seed=4)
    assert [g.ids for g in other] != [g.ids for g in written]
    assert not one.capabilities.trainer_logprobs


def test_answers_end_as_the_policy_ends(fake, folder):
    one = engine(fake, folder)
    written = one.generate([[3]] * 24, [SampleKey(prompt_id=str(i), sample_index=0) for i in range(24)],
                           replace(SAMPLING, stop=("b",)), seed=0)  # fmt: skip
    ends, decode = set(one.language.end_ids), one.language.tokenizer.decode
    for g in written:
        is_end, has_stop = g.ids[-1] in ends, "b" in decode(list(g.ids))
        assert g.finish_reason is (
            FinishReason.EOS if is_end else FinishReason.STOP if has_stop else FinishReason.LENGTH
        )
    assert {g.finish_reason for g in written} >= {FinishReason.EOS, FinishReason.STOP}
    greedy = one.generate(PROMPTS, KEYS, SAMPLING, seed=0, greedy=True)
    assert greedy[0].ids == greedy[1].ids == greedy[3].ids
    assert {a["n"] for a in fake.requests[-4:]} == {1}


# ------------------------------------------------------------------------------------------------------------- weights


@kills(
    "engines/vllm_engine.py", old="if digest != self.digest:", new="if not self.digest:", why="pushed once, then stale"
)
@pytest.mark.parametrize("train", [None, LoRA(rank=2, alpha=4)], ids=["full", "lora"])
def test_new_weights_arrive_before_the_next_answers_and_only_then(fake, folder, train):
    one = engine(fake, folder)
    if train:
        one.trunk.hf = apply(one.trunk.hf, train)
    one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert one.policy_version == 1
    one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert fake.pushes == 1
    optimizer = torch.optim.AdamW([p for p in one.trunk.parameters() if p.requires_grad], lr=0.05, fused=True)
    for _ in range(2):  # the first leaves LoRA's A where it was
        one.trunk(pack([[3, 4]], [[5, 3]]), {"logprobs"})["logprobs"].sum().backward()
        optimizer.step()
    written = one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert (fake.pushes, one.policy_version) == (2, 2)
    assert largest_gap(one, written) < 1e-5
    assert not list(one.folder.glob("*.safetensors"))


def test_a_server_that_was_started_anew_gets_its_weights_again(fake, folder):
    one = engine(fake, folder)
    one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    fake.restart()
    assert largest_gap(one, one.generate(PROMPTS, KEYS, SAMPLING, seed=0)) < 1e-5
    fake.dies_at = len(fake.requests) + 2
    written = one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert fake.pushes == 3
    assert largest_gap(one, written) < 1e-5
    assert one.policy_version == 1


def test_weights_that_did_not_arrive_end_the_run(fake, folder):
    one = engine(fake, folder)
    fake.keeps_head = True
    with pytest.raises(UserError, match=r"nats from the trainer's after weights were pushed"):
        one.generate(PROMPTS, KEYS, SAMPLING, seed=0)


@kills(
    "engines/vllm_engine.py",
    old="return FP32_GAP if is_fp32",
    new="return GAP if is_fp32",
    why="weights that are a small step old pass for those of now",
)
def test_between_fp32_and_fp32_a_small_difference_ends_the_run(fake, folder):
    fake.dtype, fake.drift = "torch.bfloat16", 0.02
    coarse = engine(fake, folder)
    coarse.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    fake.dtype = "torch.float32"
    with pytest.raises(UserError, match=r"largest_gap: 0\.001"):
        engine(fake, folder).generate(PROMPTS, KEYS, SAMPLING, seed=0)
    engine(fake, folder, largest_gap=0.02).generate(PROMPTS, KEYS, SAMPLING, seed=0)


@kills("engines/vllm_engine.py", old="readable=not self.config.start", new="readable=True",
       why="every user of the machine may read weights that only a child of ours reads")  # fmt: skip
def test_weights_are_readable_for_others_only_where_the_server_may_be_anothers(fake, folder):
    one = engine(fake, folder)
    one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert (fake.modes, one.folder.stat().st_mode & 0o777) == ({0o644}, 0o755)
    own = VllmEngine(*policy(folder), VllmHttpConfig(start=True), VllmServer(fake.url, seconds=20.0))
    own.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert (fake.modes, own.folder.stat().st_mode & 0o777) == ({0o600}, 0o700)


def test_weights_that_the_server_can_not_load_are_not_pushed_again_and_again(fake, folder):
    one = engine(fake, folder)
    fake.load_fails = True
    with pytest.raises(UserError, match=r"answers /collective_rpc with 500 .*no such folder"):
        one.generate(PROMPTS, KEYS, SAMPLING, seed=0)
    assert fake.loads == 1


# ----------------------------------------------------------------------------------------------- what can be told early


def refused(fake: FakeVllm | None, language: Language, *, longest: int = 10, **options) -> str:
    with pytest.raises(UserError) as error:
        vllm_engine.check(VllmHttpConfig(**({"url": fake.url} if fake else {}) | options), language, longest)
    return str(error.value)


def test_a_server_that_will_not_do_is_refused_before_anything_loads(fake, folder, tmp_path):
    language = load_language(ModelConfig(path=folder))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert "VLLM_SERVER_DEV_MODE=1 python -m vllm" in refused(None, language, url=nobody, answer_seconds=0.2)
    assert "--max-model-len 65" in refused(fake, language, longest=65)
    fake.logprobs_mode = "raw_logprobs"
    assert "--logprobs-mode processed_logprobs" in refused(fake, language)
    fake.logprobs_mode, fake.dev_mode = "processed_logprobs", False
    assert "VLLM_SERVER_DEV_MODE=1" in refused(fake, language)
    fake.dev_mode = True
    for page in (b"<!DOCTYPE html>", b'["data"]', b'{"object": "list"}'):
        fake.page = page
        assert "is no vLLM server" in refused(fake, language)
    fake.page = b""
    other = load_language(ModelConfig(path=model_folder(tmp_path / "other", letters="Tabcd")))
    assert "tokenizer reads text otherwise" in refused(fake, other)
    assert "engine.weights" in refused(fake, language, weights=str(tmp_path / "none"))
    assert "no vLLM in the environment" in refused(None, language, start=True)
    vllm_engine.check(VllmHttpConfig(url=fake.url), language, 64)


def test_another_vocabulary_a_tied_output_matrix_and_several_ranks_are_refused(fake, folder, tmp_path):
    chosen = VllmHttpConfig(url=fake.url)
    with pytest.raises(UserError, match="one process"):
        build_engine(*policy(folder), chosen, ranks=Ranks(rank=0, world=2))
    with pytest.raises(UserError, match="vocabulary is smaller"):
        build_engine(*policy(model_folder(tmp_path / "larger", letters="abcd")), chosen)
    with pytest.raises(UserError, match="vocabulary is larger"):
        build_engine(*policy(model_folder(tmp_path / "smaller", letters="ab")), chosen)
    tied = policy(model_folder(tmp_path / "tied", letters="abc", tied=True))
    one = build_engine(*tied, chosen)
    assert largest_gap(one, one.generate(PROMPTS, KEYS, SAMPLING, seed=0)) < 1e-5
    fake.overrides = {}
    with pytest.raises(UserError, match="ties its output matrix"):
        build_engine(*tied, chosen)


def test_options_read_and_command():
    assert "--load-format dummy" in " ".join(command("policy", longest=80))
    assert json.loads(FLAGS[-1]) == {"tie_word_embeddings": False}
    for url in (
        "localhost:8000",
        "http://127.0.0.1:80a0",
        "http://:8000",
        "http://u:p@h",
        "http://h?key=k",
        "http://h#k",
    ):
        with pytest.raises(ValueError, match=r"^engine\.url"):
            VllmHttpConfig(url=url)
    VllmHttpConfig(url="https://[::1]:8000/served/@v1")


# -------------------------------------------------------------------------------------------------- deadlines and stops


def test_a_server_that_is_ill_for_a_moment_is_asked_again_and_one_that_stays_so_is_told(fake, folder):
    one = engine(fake, folder, answer_seconds=3.0)
    fake.ill = 2
    assert len(one.generate(PROMPTS, KEYS, SAMPLING, seed=0)) == len(PROMPTS)
    fake.ill, one.server.seconds = 10**6, 0.3
    with pytest.raises(UserError, match="no vLLM server answers"):
        one.generate(PROMPTS, KEYS, SAMPLING, seed=0)


def test_a_stop_does_not_wait_for_answers(fake, folder):
    one = engine(fake, folder)
    one.generate(PROMPTS, KEYS, SAMPLING, seed=0)

    def stop() -> None:
        raise StopRequested(15)

    one.server.check_stop = stop
    with fake.lock, pytest.raises(StopRequested):  # the server is silent
        one._ask_all([one._request([3], 1, 0, SAMPLING)], 4)
    one.server.check_stop = lambda: None
    assert len(one.generate(PROMPTS, KEYS, SAMPLING, seed=0)) == len(PROMPTS)


@kills(
    "engines/vllm_server.py",
    old="                self.check_stop()\n",
    new="",
    why="a signal is not heard for ten minutes",
)
def test_a_stop_is_heard_wherever_the_server_is_waited_for(fake, folder):
    one = engine(fake, folder)
    looks = iter(range(3))

    def stop() -> None:
        if next(looks) == 2:
            raise StopRequested(15)

    for ask in (one.server.version, lambda: one.server.load(one.folder, "new"), lambda: one.server.wait(20.0)):
        looks, one.server.check_stop = iter(range(3)), stop
        with fake.lock, pytest.raises(StopRequested):  # the server is silent
            ask()
    one.server.check_stop = lambda: None
    assert one.server.version() == "default"


# ---------------------------------------------------------------------------------------------------------------- PPO


def test_ppo_learns_from_a_servers_answers_by_the_trainers_logprobs(fake, folder, tmp_path, capsys):
    chosen = config(tmp_path, model=ModelConfig(path=folder), engine=VllmHttpConfig(url=fake.url))
    rows = metrics(run(tmp_path, chosen))
    assert fake.pushes == 2
    assert all(row["ppo/sampler_logprob_gap_max"] < 1e-5 for row in rows)
    assert any(row["ppo/sampler_logprob_gap_max"] > 0 for row in rows)  # π_old is the trainer's own
    assert "token by token" not in capsys.readouterr().err
    train("ppo", replace(chosen, iterations=3), tmp_path / "run")
    assert "the run goes on, but not token by token as before" in capsys.readouterr().err
    assert len(metrics(tmp_path / "run")) == 3
