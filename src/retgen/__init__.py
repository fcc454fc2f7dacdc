"""retgen: retrieval and generation that help each other.

The public names are imported on first use, so that ``import retgen`` loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

_PUBLIC = {
    "Answer": "retgen.types",
    "Connector": "retgen.types",
    "Document": "retgen.types",
    "Hit": "retgen.types",
    "Query": "retgen.types",
    "RetgenError": "retgen.errors",
    "Run": "retgen.types",
    "Triplet": "retgen.types",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from retgen.errors import RetgenError as RetgenError
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
