"""Stages of UniGen-Iter: rounds over the test questions, later contexts written without a language model."""

from __future__ import annotations

import time
from typing import Any, Literal

from retgen.connect.concatenated import Concatenation
from retgen.connect.writer import Enhancer
from retgen.corpus import Corpus
from retgen.generative.unigen import UniGen
from retgen.iterate import iterate
from retgen.recipes.collections import read_questions, write_connectors
from retgen.recipes.context import StageContext
from retgen.recipes.contexts import bm25_writer, inputs_of, named_by
from retgen.recipes.measuring import write_outcome
from retgen.recipes.ranking import choose
from retgen.recipes.stages import stage


@stage(
    "unigen-iterations",
    version="1",
    seeded=True,
    isolated=True,
    needs=["collection", "bm25", "model", "contexts?", "embeddings?"],
    added=["docid_options", "writer", "split", "questions"],
)
def unigen_iterations(
    context: StageContext,
    rounds: int = 2,
    feedback_documents: int = 10,
    words: int = 90,
    passages: int = 3,
    listed: int = 10,
    docid_scheme: str = "lead",
    docid_words: int = 6,
    docid_options: dict[str, Any] | None = None,
    writer: Literal["offline", "concatenation"] = "offline",
    split: Literal["test", "dev"] = "test",
    questions: int = 0,
) -> None:
    """UniGen-Iter without refit: every round's run and answers as ``round<n>``, the last also as the split.

    Args:
        context: of the stage; without contexts round 0 reads plain questions.
        rounds: on top of round 0.
        feedback_documents: that the next round's context is made of.
        words: of quoted sentences in one context; of a concatenation's documents.
        passages: that are quoted.
        listed: passages that are named by their docid.
        docid_scheme: by which the context names passages; one that is made of ``embeddings`` needs them.
        docid_words: words of a lead.
        docid_options: of the scheme.
        writer: ``offline`` writes contexts as `retgen.recipes.contexts` does; ``concatenation`` puts question, answer
            and documents one behind the other, for models that read plain questions.
        split: whose questions are asked: ``dev`` to calibrate by.
        questions: so many of them, chosen by a hash of their ids; 0 takes all.
    """
    system = UniGen.open(context.input("model") / "unigen")
    corpus: Corpus
    enhancer: Enhancer
    if writer == "concatenation":
        corpus, enhancer = Corpus.open(context.input("collection") / "corpus"), Concatenation()
    else:
        corpus, enhancer = bm25_writer(context, named_by(docid_scheme, docid_words, docid_options), passages, listed)
    queries = inputs_of(context, choose(read_questions(context.input("collection"), split), questions), split)
    start = time.perf_counter()
    done = iterate(
        system,
        queries,
        corpus,
        enhancer,
        rounds=rounds,
        feedback_documents=feedback_documents,
        words=words,
        progress=lambda number, asked, of: context.progress(asked, of, f"round {number}"),
    )
    seconds = time.perf_counter() - start
    for round_ in done:
        write_outcome(context.folder, round_.run, round_.answers, round_.seconds, f"round{round_.number}")
        write_connectors(context.folder / f"round{round_.number}.connectors.jsonl", round_.queries)
    write_outcome(context.folder, done[-1].run, done[-1].answers, seconds, split)
