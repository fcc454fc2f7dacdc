"""Generative retrievers: model, docids and search put together as Retriever and Answerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retgen.generative.unigen import UniGen as UniGen

__all__ = ["UniGen"]


def __getattr__(name: str) -> object:
    if name == "UniGen":
        from retgen.generative.unigen import UniGen

        return UniGen
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
