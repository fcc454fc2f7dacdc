"""An OpenAI-compatible server for a saved model: real HTTP, real tokens, one request at a time through the model.

Run as a program: ``python model_server.py FOLDER [--key KEY] [--name NAME]``; it prints its port. Serves
``/v1/models``, ``/v1/chat/completions`` and ``/v1/completions``, the latter with ``echo`` and ``logprobs``, in fp32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}


class Model:
    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.limit = int(self.model.config.max_position_embeddings)
        self.lock = threading.Lock()

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        written, reason = self._write(ids, body)
        message = {"role": "assistant", "content": self.tokenizer.decode(written, skip_special_tokens=True)}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return self._answer("chat.completion", body, choice, len(ids), len(written))

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = self.tokenizer(body["prompt"])["input_ids"]
        written, reason = self._write(ids, body)
        shown = [*ids, *written] if body.get("echo") else written
        choice: dict[str, Any] = {"index": 0, "text": self.tokenizer.decode(shown), "finish_reason": reason}
        if body.get("logprobs") is not None:
            choice["logprobs"] = self._logprobs(ids, written, bool(body.get("echo")))
        return self._answer("text_completion", body, choice, len(ids), len(written))

    def _write(self, ids: list[int], body: dict[str, Any]) -> tuple[list[int], str]:
        wanted = int(body.get("max_tokens", 16))
        if len(ids) + wanted > self.limit:
            raise RefusedError(
                400, f"{len(ids)} + {wanted} tokens, and the context holds {self.limit}", "context_length"
            )
        if not wanted:
            return [], "length"
        temperature = float(body.get("temperature", 1.0))
        with self.lock, torch.inference_mode():
            torch.manual_seed(int(body.get("seed") or 0))
            sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
            made = self.model.generate(
                torch.tensor([ids]), max_new_tokens=wanted, pad_token_id=self.tokenizer.pad_token_id, **sampling
            )
        written = made[0, len(ids) :].tolist()
        return written, "stop" if written[-1:] == [self.tokenizer.eos_token_id] else "length"

    def _logprobs(self, ids: list[int], written: list[int], echo: bool) -> dict[str, Any]:
        row = [*ids, *written]
        with self.lock, torch.inference_mode():
            logits = self.model(torch.tensor([row])).logits[0].float().log_softmax(-1)
        values: list[float | None] = [None, *(float(logits[i, token]) for i, token in enumerate(row[1:]))]
        # As vLLM does: each token's own text, and offsets by their lengths.
        tokens = [self.tokenizer.decode([token]) for token in row]
        offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
        first = 0 if echo else len(ids)
        return {
            "tokens": tokens[first:], "token_logprobs": values[first:], "text_offset": offsets[first:],
            "top_logprobs": None,
        }  # fmt: skip

    def _answer(
        self, kind: str, body: dict[str, Any], choice: dict[str, Any], prompt: int, completion: int
    ) -> dict[str, Any]:
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return {
            "id": "c", "object": kind, "created": int(time.time()), "model": body["model"], "choices": [choice],
            "usage": usage,
        }  # fmt: skip


def handler(model: Model, name: str, key: str | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": name, "object": "model"}]})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if len(raw) < int(self.headers["Content-Length"]):  # whoever asks was killed
                self.close_connection = True
                return
            try:
                if key is not None and self.headers.get("Authorization") != f"Bearer {key}":
                    sent = self.headers.get("Authorization")
                    raise RefusedError(401, f"Incorrect API key provided: {sent}", "invalid_api_key")
                body = json.loads(raw)
                if body.get("model") != name:
                    raise RefusedError(404, f"The model {body.get('model')!r} does not exist", "model_not_found")
                serve = {"/v1/chat/completions": model.chat, "/v1/completions": model.complete}.get(self.path)
                if serve is None:
                    raise RefusedError(404, f"no {self.path}")
                self._send(200, serve(body))
            except RefusedError as refused:
                self._send(refused.status, refused.body)

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def end_with_parent() -> None:
    """End when standard input does: whoever started this is gone, however it went."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that went away."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--key")
    parser.add_argument("--name", default="tiny")
    options = parser.parse_args()
    server = QuietServer(("127.0.0.1", 0), handler(Model(options.folder), options.name, options.key))
    print(server.server_address[1], flush=True)
    end_with_parent()
    server.serve_forever()


if __name__ == "__main__":
    main()
