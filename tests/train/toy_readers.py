"""Readers of some ten thousand weights over eight passages, with their training questions and a run over them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from retgen.answer.closed_book import ClosedBook
from retgen.answer.fid import FiD
from retgen.answer.rag import Rag
from retgen.answer.reading import ReadingAnswerer
from retgen.models.reader_format import ReaderFormat
from retgen.models.scratch import train_tokenizer
from retgen.train.reader import ReaderDev, ReaderTraining
from retgen.train.reader_examples import ReaderExample, reader_examples
from retgen.types import Run
from tests.train.toy import CORPUS, DOCUMENTS, QUESTIONS, TRIPLETS

FORMAT = ReaderFormat(max_input_tokens=80, max_question_tokens=40, max_answer_tokens=16)
METHODS: dict[str, tuple[type[ReadingAnswerer], dict[str, Any]]] = {
    "closed-book": (ClosedBook, {}),
    "fid": (FiD, {}),
    "rag-sequence": (Rag, {"marginal": "sequence"}),
    "rag-token": (Rag, {"marginal": "token"}),
}


@cache
def tokenizer_of_toys() -> PreTrainedTokenizerBase:
    """Made once: a tokenizer trained twice is not always the same."""
    texts = [*(document.contents for document in DOCUMENTS), *(query.text for query in QUESTIONS)]
    return train_tokenizer([*texts, "question: title: context: " * 3], 420)


def toy_answerer(method: str, *, dropout: float = 0.1, seed: int = 0, **options: Any) -> ReadingAnswerer:
    """An untrained answerer; of one seed always the same."""
    tokenizer = tokenizer_of_toys()
    torch.manual_seed(seed)
    model: Any = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_decoder_layers=1, num_heads=2,
            dropout_rate=dropout, feed_forward_proj="gated-gelu", pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.pad_token_id,
            scale_decoder_outputs=False,
        )
    )  # fmt: skip
    torch.nn.init.normal_(model.shared.weight, std=0.05)
    kind, own = METHODS[method]
    made: Any = kind.reader_class
    return kind(made(model.eval(), tokenizer, FORMAT, **own), passages=3, **options)


def toy_run() -> Run:
    """For each question three passages: the right one is first, second or third."""
    found = {}
    for number, query in enumerate(QUESTIONS):
        ids = [DOCUMENTS[(number + step) % len(DOCUMENTS)].id for step in ((0, 3, 5), (3, 0, 5), (3, 5, 0))[number % 3]]
        found[query.id] = {doc_id: 2.0 - 0.5 * rank for rank, doc_id in enumerate(ids)}
    return Run.from_dict(found)


def toy_reader_examples(method: str) -> list[ReaderExample]:
    """One for each question."""
    return reader_examples(TRIPLETS, None if method == "closed-book" else toy_run(), passages=3)


def toy_reader_options(**options: Any) -> ReaderTraining:
    """A short training: 8 questions in batches of 3 make epochs of three steps with a short last batch."""
    chosen: dict[str, Any] = {
        "max_steps": 8, "batch_size": 3, "learning_rate": 3e-3, "warmup_steps": 2, "save_steps": 2,
        "precision": "fp32", **options,
    }  # fmt: skip
    return ReaderTraining(**chosen)


def toy_reader_dev() -> ReaderDev:
    """The training questions themselves."""
    return ReaderDev(QUESTIONS, {triplet.query.id: triplet.answers for triplet in TRIPLETS}, toy_run(), CORPUS)


def reader_weights(answerer: ReadingAnswerer) -> dict[str, Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in answerer.model.state_dict().items()}
