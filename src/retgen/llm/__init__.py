"""Language models as writers: prompts, endpoints, retries, budgets and the ledger. Nothing here loads a model."""

from __future__ import annotations

from retgen.llm.client import EndpointClient
from retgen.llm.endpoint import Endpoint
from retgen.llm.errors import BudgetSpentError, CompletionsFailedError, EndpointError
from retgen.llm.faults import RetryPolicy
from retgen.llm.ledger import Ledger, LedgerEntry
from retgen.llm.limits import Budget, Price
from retgen.llm.progress import Standing
from retgen.llm.prompt_files import read_prompts
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
from retgen.llm.requests import CompletionRequest

__all__ = [
    "ANSWER_PROMPT",
    "CONTEXT_PROMPT",
    "DEFAULT_CONTEXT_WORDS",
    "DEFAULT_FEEDBACK_DOCUMENTS",
    "DEFAULT_SUMMARY_WORDS",
    "ENHANCE_PROMPT",
    "PROMPTS",
    "SUMMARY_PROMPT",
    "Budget",
    "BudgetSpentError",
    "CompletionRequest",
    "CompletionsFailedError",
    "Endpoint",
    "EndpointClient",
    "EndpointError",
    "Ledger",
    "LedgerEntry",
    "Price",
    "Prompt",
    "RetryPolicy",
    "Standing",
    "read_prompts",
]
