"""The generative retrievers that UniGen is compared with, as data: docids, network, and stages of training.

Numbers are the systems' own, but for the epochs of DSI, DSI-QG and NCI and the batches of NCI and Ultron, which are
chosen here; a recipe makes them smaller. All of them are trained by `retgen.train.stages` and used as
a `retgen.generative.unigen.UniGen` without answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retgen.train.pairs import Pairs
from retgen.train.stages import TrainingStage


@dataclass(frozen=True, slots=True)
class GenerativeSystem:
    """What makes a generative retriever.

    Args:
        docid_scheme: how documents are named.
        docid_options: of the scheme.
        stages: of training, in order.
        max_input_tokens: longer inputs are cut.
        num_beams: of the docid search.
        dropout: of the network; None is the source's own.
        prefix_head_layers: of NCI's head; 0 has none.
        docid_outputs_only: the decoder writes docid tokens alone.
    """

    docid_scheme: str
    stages: tuple[TrainingStage, ...]
    docid_options: Mapping[str, Any] = field(default_factory=dict)
    max_input_tokens: int = 64
    num_beams: int = 10
    dropout: float | None = None
    prefix_head_layers: int = 0
    docid_outputs_only: bool = False


DSI_SEMANTIC = GenerativeSystem(
    "semantic",
    docid_options={"clusters": 10, "leaf": 100, "alphabet": "digits"},
    stages=(
        TrainingStage(
            "index and retrieve",
            (Pairs("lead", words=32, share=32), Pairs("questions", share=1)),
            epochs=10,
            batch_size=128,
            learning_rate=1e-3,
        ),
    ),
)
"""DSI with semantically structured ids: documents' first words and questions in one mix, 32 to 1.

Reference: Tay et al., "Transformer Memory as a Differentiable Search Index", 2022.
"""

DSI_QG = GenerativeSystem(
    "integer",
    stages=(
        TrainingStage("questions", (Pairs("pseudo", per_document=10), Pairs("questions")), epochs=10, batch_size=256,
                      learning_rate=5e-4),
    ),
    max_input_tokens=32,
)  # fmt: skip
"""DSI-QG: what stands for a document are questions made from it, so that training reads what searching will.

Reference: Zhuang et al., "Bridging the Gap Between Indexing and Retrieval for Differentiable Search Index with Query
Generation", 2022.
"""

NCI = GenerativeSystem(
    "semantic",
    docid_options={"clusters": 30, "leaf": 30, "alphabet": "position"},
    stages=(
        TrainingStage(
            "queries and chunks",
            (
                Pairs("questions"),
                Pairs("title"),
                Pairs("lead", words=64),
                Pairs("chunks", words=64, per_document=10),
                Pairs("pseudo", per_document=15),
            ),
            epochs=10,
            batch_size=64,
            learning_rate=2e-4,
            fresh_learning_rate=1e-4,
            consistency=0.15,
        ),
    ),
    max_input_tokens=128,  # 64 words are more than 64 tokens
    num_beams=100,
    dropout=0.1,
    prefix_head_layers=4,
    docid_outputs_only=True,
)
"""NCI: cluster ids in a vocabulary of places and numbers, the prefix-aware head, and a consistency loss.

Reference: Wang et al., "A Neural Corpus Indexer for Document Retrieval", 2022.
"""

ULTRON = GenerativeSystem(
    "pq",
    docid_options={"groups": 24, "codes": 256},
    stages=(
        TrainingStage("passages", (Pairs("chunks", words=64), Pairs("terms"), Pairs("title")), epochs=10,
                      learning_rate=1e-3),
        TrainingStage("generated questions", (Pairs("pseudo", per_document=10),), epochs=20, learning_rate=1e-3),
        TrainingStage("labelled questions", (Pairs("questions"),), epochs=10, learning_rate=1e-3),
    ),
    max_input_tokens=128,
)  # fmt: skip
"""Ultron-PQ: product quantisation, in three stages: passages and their terms, generated questions, labelled ones.

Reference: Zhou et al., "Ultron: An Ultimate Retriever on Corpus with a Model-based Indexer", 2022.
"""

SYSTEMS: Mapping[str, GenerativeSystem] = {
    "dsi-semantic": DSI_SEMANTIC,
    "dsi-qg": DSI_QG,
    "nci": NCI,
    "ultron": ULTRON,
}
"""System by name."""
