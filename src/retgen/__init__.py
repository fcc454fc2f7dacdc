"""retgen: retrieval and generation that help each other.

The public names are imported on first use, so that ``import retgen`` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

# Not `iterate`: an attribute of that name is the module retgen.iterate as soon as anything imports it.
_PUBLIC = {
    "Answer": "retgen.types",
    "BM25": "retgen.lexical",
    "BestSpan": "retgen.answer",
    "Calibrated": "retgen.answer.answerable",
    "ChatWriter": "retgen.connect.chat",
    "ClosedBook": "retgen.answer.closed_book",
    "Connector": "retgen.types",
    "Corpus": "retgen.corpus",
    "CrossEncoder": "retgen.rerank.cross_encoder",
    "DenseRetriever": "retgen.dense",
    "Document": "retgen.types",
    "FiD": "retgen.answer.fid",
    "Hit": "retgen.types",
    "Index": "retgen.index",
    "JointReranker": "retgen.rerank.joint",
    "LiveDocids": "retgen.docids.live",
    "LocalWriter": "retgen.connect.local",
    "OfflineWriter": "retgen.connect",
    "PrefixTree": "retgen.docids.prefix_tree",
    "Query": "retgen.types",
    "QueryGenerator": "retgen.models.query_generator",
    "QueryLikelihood": "retgen.rerank.query_likelihood",
    "Rag": "retgen.answer.rag",
    "RetgenError": "retgen.errors",
    "Run": "retgen.types",
    "TrieLogitsProcessor": "retgen.docids.logits_processor",
    "Triplet": "retgen.types",
    "UniGen": "retgen.generative",
    "UniGenSettings": "retgen.generative.settings",
    "evaluate_answers": "retgen.evaluate",
    "evaluate_citations": "retgen.evaluate",
    "evaluate_run": "retgen.evaluate",
    "open_reader": "retgen.answer.folder",
    "open_unigen": "retgen.generative.over_index",
    "tune": "retgen.rerank.tuning",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from retgen.answer import BestSpan as BestSpan
    from retgen.answer.answerable import Calibrated as Calibrated
    from retgen.answer.closed_book import ClosedBook as ClosedBook
    from retgen.answer.fid import FiD as FiD
    from retgen.answer.folder import open_reader as open_reader
    from retgen.answer.rag import Rag as Rag
    from retgen.connect import OfflineWriter as OfflineWriter
    from retgen.connect.chat import ChatWriter as ChatWriter
    from retgen.connect.local import LocalWriter as LocalWriter
    from retgen.corpus import Corpus as Corpus
    from retgen.dense import DenseRetriever as DenseRetriever
    from retgen.docids.live import LiveDocids as LiveDocids
    from retgen.docids.logits_processor import TrieLogitsProcessor as TrieLogitsProcessor
    from retgen.docids.prefix_tree import PrefixTree as PrefixTree
    from retgen.errors import RetgenError as RetgenError
    from retgen.evaluate import evaluate_answers as evaluate_answers
    from retgen.evaluate import evaluate_citations as evaluate_citations
    from retgen.evaluate import evaluate_run as evaluate_run
    from retgen.generative import UniGen as UniGen
    from retgen.generative.over_index import open_unigen as open_unigen
    from retgen.generative.settings import UniGenSettings as UniGenSettings
    from retgen.index import Index as Index
    from retgen.lexical import BM25 as BM25
    from retgen.models.query_generator import QueryGenerator as QueryGenerator
    from retgen.rerank.cross_encoder import CrossEncoder as CrossEncoder
    from retgen.rerank.joint import JointReranker as JointReranker
    from retgen.rerank.query_likelihood import QueryLikelihood as QueryLikelihood
    from retgen.rerank.tuning import tune as tune
    from retgen.types import Answer as Answer
    from retgen.types import Connector as Connector
    from retgen.types import Document as Document
    from retgen.types import Hit as Hit
    from retgen.types import Query as Query
    from retgen.types import Run as Run
    from retgen.types import Triplet as Triplet


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
