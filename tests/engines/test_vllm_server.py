"""PPO beside a real vLLM, which plaudit starts in the environment that the benchmarks use; `make vllm`."""

from pathlib import Path

import pytest
import torch

from benchmarks.environments import python_of
from plaudit.engines import vllm_engine
from plaudit.engines.options import SamplingConfig, VllmHttpConfig
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import pack
from tests.training.scripted import config, run
from tests.training.tiny import metrics, model_folder

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("default")]
PROMPTS = [[3, 4]] * 2000 + [[5, 3, 4]] * 2000
KEYS = [SampleKey(prompt_id=str(i // 4), sample_index=i % 4) for i in range(len(PROMPTS))]


def policy_folder(folder: Path) -> str:
    """Heads of 32 numbers, the least that vLLM's attention takes, and a tied output matrix, which is the trap."""
    return model_folder(folder, letters="abc", width=64, spread=0.4, tied=True)


def test_frequencies_logprobs_and_weights_of_a_real_server(tmp_path):
    chosen = ModelConfig(path=policy_folder(tmp_path / "policy"))
    language = load_language(chosen)
    trunk = Trunk(load_causal(chosen, language, seed=0).hf)
    server = VllmHttpConfig(start=True, python=str(python_of("vllm")))
    vllm_engine.check(server, language, 12)
    engine = vllm_engine.make(trunk, language, server)
    for version, temperature in ((1, 0.7), (2, 1.0)):
        sampling = SamplingConfig(max_new_tokens=4, temperature=temperature)
        written = engine.generate(PROMPTS, KEYS, sampling, seed=5)
        batch = pack(PROMPTS, [g.ids for g in written])
        with torch.no_grad():
            own = trunk(batch, {"logprobs"}, temperature)["logprobs"][batch.response_mask]
        assert torch.allclose(own, torch.tensor([x for g in written for x in g.logprobs]), atol=1e-4)
        assert {g.policy_version for g in written} == {version}
        firsts = torch.bincount(torch.tensor([g.ids[0] for g in written[:2000]]), minlength=6) / 2000
        chances = torch.zeros(6)
        for g in written[:2000]:
            chances[g.ids[0]] = torch.tensor(g.logprobs[0]).exp()
        assert torch.allclose(firsts, chances, atol=4 * 0.5 / 2000**0.5)
        assert engine.generate(PROMPTS[:4], KEYS[:4], sampling, seed=5) == written[:4]
        with torch.no_grad():
            for p in trunk.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    stopped = engine.generate(PROMPTS[:50], KEYS[:50], SamplingConfig(max_new_tokens=8, stop=("b",)), seed=1)
    assert {g.finish_reason.value for g in stopped} >= {"stop", "eos"}
    with pytest.raises(UserError, match="--max-model-len 99"):
        vllm_engine.check(VllmHttpConfig(url=engine.server.url), language, 99)
    vllm_engine.check(VllmHttpConfig(url=engine.server.url), language, 32)


def test_ppo_by_a_server_that_it_starts(tmp_path):
    model = ModelConfig(path=policy_folder(tmp_path / "policy"))
    engine = VllmHttpConfig(start=True, python=str(python_of("vllm")))
    rows = metrics(run(tmp_path, config(tmp_path, model=model, engine=engine, iterations=3)))
    gaps = [row["ppo/sampler_logprob_gap_max"] for row in rows if "ppo/sampler_logprob_gap_max" in row]
    assert len(gaps) == 3
    assert 0 < max(gaps) < 1e-4
