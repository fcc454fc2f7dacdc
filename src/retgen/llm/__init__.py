"""Language models as writers: the prompts they are given. Nothing here loads a model."""

from __future__ import annotations

from retgen.llm.prompts import (
    ANSWER_PROMPT,
    CONTEXT_PROMPT,
    DEFAULT_CONTEXT_WORDS,
    DEFAULT_FEEDBACK_DOCUMENTS,
    DEFAULT_SUMMARY_WORDS,
    ENHANCE_PROMPT,
    PROMPTS,
    SUMMARY_PROMPT,
    Prompt,
)

__all__ = [
    "ANSWER_PROMPT",
    "CONTEXT_PROMPT",
    "DEFAULT_CONTEXT_WORDS",
    "DEFAULT_FEEDBACK_DOCUMENTS",
    "DEFAULT_SUMMARY_WORDS",
    "ENHANCE_PROMPT",
    "PROMPTS",
    "SUMMARY_PROMPT",
    "Prompt",
]
