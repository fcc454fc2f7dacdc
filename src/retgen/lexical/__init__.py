"""Retrieval by words: BM25."""

from retgen.lexical.analyzer import Analyzer, languages
from retgen.lexical.bm25 import BM25

__all__ = ["BM25", "Analyzer", "languages"]
