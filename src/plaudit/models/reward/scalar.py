"""A scalar at the last token (N3.1–N3.3), with the reference-answer bias (N3.12)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.models.checkpoint import export, read_facts
from plaudit.models.load import Language, Loaded, ModelConfig, load_classifier
from plaudit.models.trunk import Trunk
from plaudit.records.text import Prompt
from plaudit.tokens.batches import TokenBatch, by_token_budget, pack
from plaudit.tokens.encode import fit

KIND = "scalar"


class ScalarRewardModel(nn.Module):
    """r(x, y) = head(last hidden state) − bias, in score units; the bias makes reference answers score 0 on average."""

    def __init__(self, loaded: Loaded, bias: float = 0.0):
        super().__init__()
        self.loaded = loaded
        self.trunk = Trunk(loaded.hf, score_head=loaded.hf.score)
        self.bias = bias

    def forward(self, batch: TokenBatch) -> Float[Tensor, " B"]:
        """Scores [B] of packed prompt-and-response rows."""
        return self.trunk(batch, {"scores"})["scores"] - self.bias

    def encode(self, prompt: Prompt, response: str, where: str = "") -> tuple[list[int], list[int]]:
        """A row in this model's own template: the prompt's ids, the response's with its end token."""
        renderer = self.loaded.language.renderer
        return renderer.prompt_ids(prompt, where=where), renderer.response_ids(response, end=True, form=prompt.form)

    @torch.no_grad()
    def score_texts(self, prompts: Sequence[Prompt], responses: Sequence[str], budget: int) -> Float[Tensor, " B"]:
        """Scores of texts, re-rendered here whatever tokenizer wrote them. `budget`: tokens per forward."""
        language = self.loaded.language
        encoded = [self.encode(p, r) for p, r in zip(prompts, responses, strict=True)]
        rows = [fit(*pair, language.context, language.renderer.bos) for pair in encoded]
        # Rows of similar length together; the order of results is that of the texts.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        scores = torch.empty(len(rows))
        for cut in by_token_budget((len(rows[i][0]) + len(rows[i][1]) for i in order), budget):
            part = [order[i] for i in cut]
            batch = pack([rows[i][0] for i in part], [rows[i][1] for i in part]).to(self.trunk.device)
            scores[part] = self(batch).float().cpu()
        return scores

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """A transformers sequence classifier (raw scores) and `plaudit.json` with the bias."""
        export(folder, self.loaded, {"kind": KIND, "bias": self.bias, **facts})


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> ScalarRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names."""
    facts = read_facts(config.path) if config.path != "tiny" else {}
    return ScalarRewardModel(load_classifier(config, language, seed=seed), bias=float(facts.get("bias", 0.0)))
