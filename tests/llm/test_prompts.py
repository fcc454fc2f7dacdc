"""The paper's prompts are the paper's, and a prompt refuses fields it does not have or lacks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import UsageError
from retgen.llm import prompts


def test_the_papers_three_prompts_word_for_word() -> None:
    assert prompts.SUMMARY_PROMPT.template == (
        "Summarize the key information of the following document in about {m} words.\n Document: {d}"
    )
    assert prompts.CONTEXT_PROMPT.template == (
        "Write a context to the following question in about {n} words.\n Question: {q}"
    )
    assert prompts.ENHANCE_PROMPT.template == (
        "Given the following potentially relevant documents and the potentially correct answer, "
        "please provide the context for the question in {n} words. \n Document: {d} \n Answer: {a} \n Question: {q}"
    )
    for prompt in (prompts.SUMMARY_PROMPT, prompts.CONTEXT_PROMPT, prompts.ENHANCE_PROMPT):
        assert prompt.source.startswith("UniGen")


def test_our_pseudo_answer_prompt_is_marked_as_ours() -> None:
    assert "retgen's own" in prompts.ANSWER_PROMPT.source
    assert prompts.ANSWER_PROMPT.fields == ("d", "q")


def test_defaults() -> None:
    defaults = (
        prompts.DEFAULT_SUMMARY_WORDS,
        prompts.DEFAULT_CONTEXT_WORDS,
        prompts.DEFAULT_FEEDBACK_DOCUMENTS,
    )
    assert defaults == (30, 60, 3)


@given(st.text(), st.text())
def test_values_stay_as_they_are(document: str, question: str) -> None:
    filled = prompts.ANSWER_PROMPT.format(d=document, q=question)
    head, tail = prompts.ANSWER_PROMPT.template.split("{d}")
    assert filled == head + document + tail.replace("{q}", "") + question


@pytest.mark.parametrize("values", [{}, {"n": 60}, {"n": 60, "q": "who?", "d": "more"}])
def test_wrong_fields_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="contextualise"):
        prompts.CONTEXT_PROMPT.format(**values)


@pytest.mark.parametrize("template", ["{}", "{0}", "{d.text}", "{d:>3}", "{d!r}"])
def test_only_plain_named_fields(template: str) -> None:
    with pytest.raises(UsageError):
        prompts.Prompt("odd", template, "a test")


def test_prompts_are_immutable_and_listed_by_name() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompts.SUMMARY_PROMPT.template = "x"  # type: ignore[misc]
    assert set(prompts.PROMPTS) == {"summarise", "contextualise", "answer", "enhance"}
