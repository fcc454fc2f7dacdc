"""Answers from retrieved passages."""

from retgen.answer.extractive import BestSpan, PassageSpan

__all__ = ["BestSpan", "PassageSpan"]
