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
from plaudit.tokens.batches import TokenBatch, pack

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
        return renderer.prompt_ids(prompt, where=where), renderer.response_ids(response, end=True)

    def fit(self, prompt_ids: list[int], response_ids: list[int]) -> tuple[list[int], list[int]]:
        """Cut what exceeds the context: the prompt's beginning first, then the response's end."""
        context = self.loaded.language.context
        response_ids = response_ids[: context - 1]
        room = context - len(response_ids)
        return prompt_ids[-room:], response_ids

    @torch.no_grad()
    def score_texts(self, prompts: Sequence[Prompt], responses: Sequence[str], budget: int) -> Float[Tensor, " B"]:
        """Scores of texts, re-rendered here whatever tokenizer wrote them. `budget`: tokens per forward."""
        rows = [self.fit(*self.encode(p, r)) for p, r in zip(prompts, responses, strict=True)]
        # Rows of similar length together; the order of results is that of the texts.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        scores = torch.empty(len(rows))
        begin = 0
        while begin < len(order):
            end, used = begin, 0
            while end < len(order) and (end == begin or used + sum(map(len, rows[order[end]])) <= budget):
                used += sum(map(len, rows[order[end]]))
                end += 1
            part = order[begin:end]
            batch = pack([rows[i][0] for i in part], [rows[i][1] for i in part]).to(self.trunk.device)
            scores[part] = self(batch).float().cpu()
            begin = end
        return scores

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """A transformers sequence classifier (raw scores) and `plaudit.json` with the bias."""
        export(folder, self.loaded, {"kind": KIND, "bias": self.bias, **facts})


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> ScalarRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names."""
    facts = read_facts(config.path) if config.path != "tiny" else {}
    return ScalarRewardModel(load_classifier(config, language, seed=seed), bias=float(facts.get("bias", 0.0)))
