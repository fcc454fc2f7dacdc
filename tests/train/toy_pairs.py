"""A cross-encoder of a few thousand weights, and what it can learn in a few steps: passages about gold are relevant."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from retgen.rerank.cross_encoder import CrossEncoder
from retgen.train.candidates import LabelledCandidates
from retgen.train.cross_encoder import CrossEncoderTraining
from retgen.types import Document, Query
from tests.rerank.classifiers import SHAPE, pair_tokenizer

WORDS = ("oxygen", "iron", "gold", "everest", "nile", "nepal", "egypt", "metal")
DOCUMENTS = {
    f"d{n}": Document(f"d{n}", f"{one} is {two}.", one) for n, (one, two) in enumerate(itertools.permutations(WORDS, 2))
}


def toy_reranker(*, outputs: int = 1, dropout: float = 0.1, seed: int = 0) -> CrossEncoder:
    """Untrained."""
    torch.manual_seed(seed)
    tokenizer = pair_tokenizer()
    config = BertConfig(
        **SHAPE,
        vocab_size=len(tokenizer),
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    config.num_labels = outputs
    return CrossEncoder(BertForSequenceClassification(config), tokenizer, device="cpu", dtype="fp32")


def toy_candidates(questions: int = 12, size: int = 6) -> list[LabelledCandidates]:
    """One relevant passage each, at varying places."""
    gold = [name for name, document in DOCUMENTS.items() if document.title == "gold"]
    others = [name for name in DOCUMENTS if name not in gold]
    made = []
    for n in range(questions):
        of_question = [others[(7 * n + 5 * m) % len(others)] for m in range(size - 1)]
        of_question.insert(n % size, gold[n % len(gold)])
        labels = tuple(int(name in gold) for name in of_question)
        made.append(LabelledCandidates(Query(f"q{n}", f"which metal, number {n}?"), tuple(of_question), labels))
    return made


def toy_options(**options: object) -> CrossEncoderTraining:
    """Two epochs of nine steps, a checkpoint every four."""
    given: dict[str, object] = {"batch_size": 8, "save_steps": 4, "learning_rate": 1e-3, "precision": "fp32", **options}
    return CrossEncoderTraining(**given)  # type: ignore[arg-type]


def weights(reranker: CrossEncoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in reranker.model.state_dict().items()}


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def saved_toy(folder: Path) -> Path:
    """A checkpoint folder of an untrained one."""
    made = toy_reranker()
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder
