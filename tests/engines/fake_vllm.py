"""What plaudit asks of a vLLM server, answered by a small model in this process: it reads the files that are pushed."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast


class FakeVllm:
    """Serves the model whose config and tokenizer lie in `folder`, with weights of its own until others are pushed.

    What it can be made to do wrong are its attributes.
    """

    def __init__(self, folder: str):
        config = AutoConfig.from_pretrained(folder)
        config.tie_word_embeddings = False
        self.fresh = AutoModelForCausalLM.from_config(config).eval()
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.max_model_len, self.dev_mode, self.overrides = 64, True, {"tie_word_embeddings": False}
        self.logprobs_mode = "processed_logprobs"
        self.keeps_head = False
        self.ill, self.dies_at = 0, 0
        self.lock, self.requests, self.pushes = threading.RLock(), list[dict[str, Any]](), 0
        self.restart()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def restart(self) -> None:
        """Weights and their name are gone."""
        self.model, self.version = self.fresh, "default"

    def load(self, folder: str) -> None:
        self.pushes += 1
        weights = {k: v for file in Path(folder).glob("*.safetensors") for k, v in load_file(file).items()}
        if self.keeps_head:
            del weights["lm_head.weight"]
        missing = self.model.load_state_dict(weights, strict=False).missing_keys
        assert self.keeps_head or not missing

    @torch.no_grad()
    def write(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        generator, ids, logprobs = torch.Generator().manual_seed(body["seed"] + index), [], []
        reason, why, text = "length", None, ""
        while len(ids) < body["max_tokens"] and reason == "length":
            logits = self.model(input_ids=torch.tensor([[*body["prompt"], *ids]])).logits[0, -1]
            chances = (logits / (body["temperature"] or 1.0)).softmax(-1)
            drawn = (
                torch.multinomial(chances, 1, generator=generator) if body["temperature"] else chances.argmax()[None]
            )
            ids.append(int(drawn))
            logprobs.append(float(chances[drawn].log()))
            text = self.tokenizer.decode(ids, skip_special_tokens=body["skip_special_tokens"])
            stops = [stop for stop in body["stop"] if stop in text]
            if ids[-1] in body["stop_token_ids"]:
                reason, why = "stop", ids[-1]
            elif stops:
                reason, why = "stop", stops[0]
        return {
            **{"index": index, "text": text, "token_ids": ids, "finish_reason": reason, "stop_reason": why},
            "logprobs": {"token_logprobs": logprobs},
        }

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path not in ("/v1/models", "/v1/completions", "/tokenize", "/health") and not self.dev_mode:
            return 404, {"detail": "Not Found"}
        if path == "/v1/completions":
            return self.complete(body)
        if path == "/tokenize":
            return 200, {"tokens": self.tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]}
        if path == "/update_weight_version":
            self.version = body["new_version"]
        if body.get("method") == "reload_weights":
            self.load(body["kwargs"]["weights_path"])
        model = {"hf_overrides": self.overrides, "logprobs_mode": self.logprobs_mode}
        plain = {
            "/health": None,
            "/v1/models": {"data": [{"id": "policy", "max_model_len": self.max_model_len}]},
            "/server_info": {"vllm_config": {"model_config": model, "device_config": {"device": "cpu"}}},
            "/weight_info": {"weight_version": self.version},
            "/update_weight_version": {},
            "/collective_rpc": {"results": [None]},
            "/reset_prefix_cache": {"success": True},
        }
        return 200, plain[path]

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if max(body["prompt"]) >= self.model.config.vocab_size:
            return 400, {"error": "out of vocabulary"}
        if self.ill:
            self.ill -= 1
            return 503, {"error": "ill"}
        self.requests.append(body)
        if len(self.requests) == self.dies_at:
            self.restart()
        return 200, {"choices": [self.write(body, index) for index in reversed(range(body["n"]))]}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeVllm

    def do_GET(self) -> None:
        self._reply({})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._reply(json.loads(text) if text else {})

    def _reply(self, body: dict[str, Any]) -> None:
        with self.fake.lock:
            status, answer = self.fake.answer(self.path.partition("?")[0], body)
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
