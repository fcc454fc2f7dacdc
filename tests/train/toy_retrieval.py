"""A collection whose questions share no word with their passages, and a bi-encoder small enough to learn it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from retgen.corpus import Corpus
from retgen.train.bi_encoder import BiEncoderTraining
from retgen.types import Document, Query, Triplet

COLOURS = {"red": "scarlet", "blue": "azure", "green": "jade", "white": "ivory", "black": "ebony"}
THINGS = {"house": "villa", "boat": "vessel", "horse": "stallion", "stone": "pebble", "road": "avenue"}
PAIRS = list(itertools.product(COLOURS, THINGS))
DOCUMENTS = {
    f"{colour}-{thing}": Document(f"{colour}-{thing}", f"There is a {thing}, and it is {colour}.")
    for colour, thing in PAIRS
}


def toy_corpus() -> Corpus:
    return Corpus.from_documents(DOCUMENTS.values())


def toy_triplets() -> list[Triplet]:
    """One question a document, in other words."""
    return [
        Triplet(Query(f"q-{colour}-{thing}", f"{COLOURS[colour]} {THINGS[thing]}?"), (), (f"{colour}-{thing}",))
        for colour, thing in PAIRS
    ]


def toy_encoder(*, seed: int = 0, **options: Any) -> Any:
    """Untrained, without dropout."""
    from retgen.dense.fresh import begin_encoder

    torch.manual_seed(seed)
    texts = [*(item.text for item in DOCUMENTS.values()), *(triplet.query.text for triplet in toy_triplets())] * 2
    return begin_encoder("scratch:tiny", texts=texts, device="cpu", **options)


def toy_options(**options: object) -> BiEncoderTraining:
    given: dict[str, object] = {
        "batch_size": 8, "epochs": 2.0, "save_steps": 3, "learning_rate": 1e-3, "precision": "fp32", **options,
    }  # fmt: skip
    return BiEncoderTraining(**given)  # type: ignore[arg-type]


def weights(encoder: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def same_weights(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
