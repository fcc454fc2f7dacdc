"""A corpus on disk: documents by id and by number, memory-mapped, in an order that never changes."""

from retgen.corpus.corpus import KIND, Corpus

__all__ = ["KIND", "Corpus"]
