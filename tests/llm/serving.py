"""A tiny saved model with a chat template, and the processes that serve it: what tests of language models talk to."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.models.checkpoints import byte_level_tokenizer

MODEL = "tiny"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
_HERE = Path(__file__).parent


def save_chat_model(folder: Path, positions: int = 512) -> None:
    """A two-layer GPT-2 with random weights, which writes the same words for the same prompt.

    Args:
        folder: to save it in.
        positions: tokens that it reads and writes, a letter or so each.
    """
    torch.manual_seed(0)
    tokenizer = byte_level_tokenizer(PreTrainedTokenizerFast)
    tokenizer._tokenizer.post_processor = None
    tokenizer.chat_template = CHAT_TEMPLATE
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=positions, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=2, initializer_range=0.4,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        # Bytes that are no letters would make texts that are no texts.
        bias = torch.zeros(len(tokenizer))
        for word, number in tokenizer.get_vocab().items():
            plain = word.replace("Ġ", "")
            if not (plain.isascii() and (plain.isalnum() or plain == "")) or not word:
                bias[number] = -1.0
        words = model.transformer.wte.weight
        words[bias < 0] *= 0.05
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The base URL of a model server, a process of its own, as long as the block lasts."""
    with _process(_HERE / "model_server.py", str(folder), *options) as port:
        yield f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def spoiled(url: str, log: Path, *options: str) -> Iterator[str]:
    """The base URL of a proxy in front of another, a process of its own, as long as the block lasts."""
    with _process(_HERE / "fault_proxy.py", url.removesuffix("/v1"), "--log", str(log), *options) as port:
        yield f"http://127.0.0.1:{port}/v1"


def delivered(log: Path) -> Counter[str]:
    """How often each request got a whole answer, by the proxy's log."""
    lines = log.read_text().splitlines() if log.exists() else []
    found = (json.loads(line) for line in lines)
    return Counter(str(line["request"]) for line in found if line["whole"])


def faults(log: Path) -> Counter[str]:
    """How often each fault was made."""
    found = (json.loads(line) for line in log.read_text().splitlines())
    return Counter(str(line["fault"]) for line in found if line["fault"])


@contextlib.contextmanager
def _process(program: Path, *arguments: str) -> Iterator[int]:
    command = [sys.executable, str(program), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip(), f"{program.name} did not start"
        yield int(line)
    finally:
        process.kill()
        process.wait()
