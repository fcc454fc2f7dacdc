"""Retrieval by embeddings. Needs the extra ``dense``; nothing heavy is loaded before a model is."""

from retgen.dense.bi_encoder import DenseRetriever
from retgen.dense.kinds import IndexKind

__all__ = ["DenseRetriever", "IndexKind"]
