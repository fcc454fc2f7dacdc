"""An index: a corpus and the retrievers over it, in one folder that is replaced whole or not at all."""

from retgen.index.changes import KIND, FixedIndexError
from retgen.index.filters import metadata_filter
from retgen.index.index import FilteringRetriever, Index

__all__ = ["KIND", "FilteringRetriever", "FixedIndexError", "Index", "metadata_filter"]
