"""A writer in this process: any Hugging Face causal or encoder-decoder model, in batches, through the same ledger.

For small models and machines without a server. At size, vLLM behind `retgen.connect.chat.ChatWriter` is far faster.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from retgen.connect.prompted import PromptedWriter, Sampling
from retgen.devices import length_sorted_batches, pick_device, pick_dtype
from retgen.errors import UsageError
from retgen.llm.ledger import IN_MEMORY, Ledger, LedgerEntry
from retgen.llm.limits import Budget
from retgen.llm.outcomes import Outcome, Tally
from retgen.llm.progress import OnStanding
from retgen.llm.prompts import Prompt
from retgen.llm.requests import CompletionRequest
from retgen.models.pair_batches import left_padded, padded
from retgen.models.pretrained import load_tokenizer, load_weights, model_type
from retgen.models.prompt_format import end_token_id
from retgen.models.query_model import position_limit
from retgen.models.query_sampling import TopKDraws, plain_generation, streams

_WINDOW = 1024
"""Prompts that are read at a time, to be sorted by length."""
_SAMPLED_VALUES = 64
_OURS = frozenset({"temperature", "seed", "max_tokens", "top_k"})


class LocalWriter(PromptedWriter):
    """Writes connectors with a model in this process.

    A causal model is shown the prompt in its chat template, where its tokenizer has one; an encoder-decoder the bare
    prompt. With a temperature above 0, each prompt draws from a random stream of its own, made of seed and prompt, so
    that its text does not depend on the batch it is in.

    Completions are kept in the ledger batch by batch, under the model's name and a checksum of its weights: another
    model under the same name is another writer.

    Args:
        model: a causal or encoder-decoder language model.
        tokenizer: its own.
        name: of the writer.
        ledger: keeps completions; without one they are kept in memory.
        prompts: job → prompt, in the place of the paper's.
        sampling: of all jobs, or job → sampling; its parameters may name ``top_k``.
        document_words: words of a document that the model is shown.
        most_failed: share of a job's prompts that may get no completion, see `PromptedWriter`.
        batch_tokens: most tokens of a batch, prompts and completions, after padding.
        on_standing: told after every prompt how far it has come.

    Raises:
        UsageError: a parameter that is not known here, or ``batch_tokens`` below 1.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        name: str,
        *,
        ledger: Ledger | None = None,
        prompts: Mapping[str, Prompt] | None = None,
        sampling: Sampling | Mapping[str, Sampling] | None = None,
        document_words: int = 1500,
        most_failed: float = 0.0,
        batch_tokens: int = 8192,
        on_standing: OnStanding | None = None,
    ) -> None:
        super().__init__(
            name, prompts=prompts, sampling=sampling, document_words=document_words, most_failed=most_failed
        )
        unknown = sorted({key for each in self.sampling.values() for key in each.parameters} - _OURS)
        if unknown:
            raise UsageError(
                f"a model in this process does not know the parameter {unknown[0]!r}",
                mend=f"It knows {', '.join(sorted(_OURS))}",
            )
        if batch_tokens < 1:
            raise UsageError(f"batch_tokens must be at least 1; got {batch_tokens}")
        self.network: Any = model
        self.network.train(False)
        self.tokenizer = tokenizer
        self.ledger = ledger if ledger is not None else Ledger(IN_MEMORY)
        self.on_standing = on_standing
        self._batch_tokens = batch_tokens
        config: Any = model.config
        self._seq2seq = bool(getattr(config, "is_encoder_decoder", False))
        self._end = end_token_id(tokenizer)
        self._pad = int(tokenizer.pad_token_id) if tokenizer.pad_token_id is not None else self._end
        self._limit = None if self._seq2seq else position_limit(model)
        self._identity = {"weights": _checksum(model), "dtype": str(model.dtype).removeprefix("torch.")}

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, device: str = "auto", dtype: str = "auto", name: str | None = None, **options: Any
    ) -> LocalWriter:
        """A writer from a hub id or folder.

        Args:
            path: its configuration says whether it is causal or an encoder-decoder.
            device: see `retgen.devices.pick_device`.
            dtype: ``auto``, ``fp32`` or ``bf16``.
            name: of the writer; the path by default.
            options: of `LocalWriter`.

        Raises:
            FormatError: no language model can be loaded from there.
            UsageError: an option that cannot be used.
        """
        model_type(path)
        config = AutoConfig.from_pretrained(str(path), trust_remote_code=False)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        chosen = pick_device(device)
        model: Any = load_weights(kind, path)
        model.to(device=chosen, dtype=pick_dtype(chosen, dtype))
        return cls(model, load_tokenizer(path), name if name is not None else str(path), **options)

    def complete(self, requests: Iterable[CompletionRequest], total: int) -> list[Outcome]:
        """What became of each request, in their order; those in the ledger are not written again."""
        tally = Tally(Budget(), total, self.on_standing)
        numbered = enumerate(requests)
        while window := list(islice(numbered, _WINDOW)):
            self._complete(window, tally)
        return tally.in_order()

    def _request(self, job: str, words: int, **values: object) -> CompletionRequest:
        made = super()._request(job, words, **values)
        return CompletionRequest(made.model, made.prompt, {**made.parameters, **self._identity})

    def _complete(self, window: Sequence[tuple[int, CompletionRequest]], tally: Tally) -> None:
        wanted: dict[str, tuple[CompletionRequest, list[int]]] = {}
        for number, request in window:
            entry = self.ledger.get(request)
            if entry is not None:
                tally.record([number], Outcome(entry.completion, entry.finish_reason, cached=True))
            else:
                wanted.setdefault(request.key, (request, []))[1].append(number)
        # Prompts of one job and number of words share their parameters; others are batches of their own.
        alike: dict[str, list[tuple[CompletionRequest, list[int]]]] = {}
        for request, numbers in wanted.values():
            alike.setdefault(request.parameters_text, []).append((request, numbers))
        for group in alike.values():
            self._write(group, tally)

    def _write(self, group: Sequence[tuple[CompletionRequest, list[int]]], tally: Tally) -> None:
        most = group[0][0].completion_tokens_limit
        rows = [self._ids(request.prompt) for request, _ in group]
        room = None if self._limit is None else self._limit - most
        fitting = [place for place, row in enumerate(rows) if room is None or len(row) <= room]
        for place in sorted(set(range(len(rows))) - set(fitting)):
            error = f"prompt and completion may take {len(rows[place])} + {most} tokens, the model reads {self._limit}"
            tally.record(group[place][1], Outcome(None, error=error))
        for batch in length_sorted_batches([len(rows[place]) + most for place in fitting], self._batch_tokens):
            places = [fitting[number] for number in batch]
            start = time.monotonic()
            written = self._generate([rows[place] for place in places], group[places[0]][0])
            seconds = (time.monotonic() - start) / len(places)
            for place, ids in zip(places, written, strict=True):
                request, numbers = group[place]
                entry = self.ledger.put(
                    LedgerEntry(
                        request,
                        str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip(),
                        "stop" if len(ids) < most or ids[-1:] == [self._end] else "length",
                        len(rows[place]),
                        len(ids),
                        None,
                        "in process",
                        time.time(),
                        seconds,
                    )
                )
                tally.budget.settle((0, 0), (len(rows[place]), len(ids)))
                tally.record(numbers, Outcome(entry.completion, entry.finish_reason))

    def _ids(self, prompt: str) -> list[int]:
        if self._seq2seq or not self.tokenizer.chat_template:
            return list(self.tokenizer(prompt, verbose=False)["input_ids"])
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return list(self.tokenizer(str(text), add_special_tokens=False, verbose=False)["input_ids"])

    @torch.inference_mode()
    def _generate(self, rows: Sequence[Sequence[int]], request: CompletionRequest) -> list[list[int]]:
        """The tokens written for each row, up to its first EOS."""
        temperature = float(str(request.parameters.get("temperature", 0.0)))
        settings = plain_generation(self.network, request.completion_tokens_limit, self._pad, self._end)
        processors = []
        if temperature > 0:
            top_k = int(str(request.parameters.get("top_k", len(self.tokenizer))))
            seed = int(str(request.parameters.get("seed", 0)))
            processors = [TopKDraws(streams(rows, 1, seed), top_k, temperature)]
        pad = padded if self._seq2seq else left_padded
        ids, mask = pad(rows, self._pad, self.network.device)
        made = self.network.generate(
            input_ids=ids, attention_mask=mask, generation_config=settings, logits_processor=processors
        )
        begin = 1 if self._seq2seq else ids.shape[1]
        ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
        return [_until(row, ends) for row in made[:, begin:].tolist()]


def _until(ids: list[int], ends: Sequence[int | None]) -> list[int]:
    """The ids up to the first that ends a text, that one included."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: first + 1]


def _checksum(model: PreTrainedModel) -> str:
    """Of some values of every weight: training changes all of them, so a few of each tell models apart."""
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in model.named_parameters():
        flat = weight.detach().flatten()
        some = torch.cat([flat[:_SAMPLED_VALUES], flat[-_SAMPLED_VALUES:]]).float().cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()
