"""Stages of rows that live on made-up questions: a query generator, its pseudo queries, and DocT5Query."""

from __future__ import annotations

import shutil

from retgen.connect import pseudo_questions
from retgen.connect.sampled import PairScorer, Sampling, write_sampled_queries
from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.formats.jsonl import read_triplets, write_triplets
from retgen.lexical.bm25 import BM25
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import search_splits
from retgen.recipes.reranking import FOLDERS, named_model
from retgen.recipes.stages import stage

OFFLINE = "offline"
PSEUDO = "pseudo.jsonl"
"""The file of a stage that makes pseudo queries: `retgen.recipes.collections.read_questions` reads it too."""


@stage("doc2query-train", version="1", seeded=True, isolated=True, needs=["collection"])
def doc2query_train(
    context: StageContext,
    source: str = "warm:minilm",
    preset: str = "jpr",
    steps: int = 0,
    epochs: float = 2.0,
    batch_size: int = 64,
    learning_rate: float = 0.0,
    fresh_learning_rate: float = 0.0,
    copy_head: bool = True,
    frozen_encoder: bool = True,
    save_steps: int = 100,
    train_questions: int = 0,
) -> None:
    """Train a query generator on the training questions and their passages.

    Args:
        context: of the stage.
        source: of the weights; a checkpoint such as DocT5Query's needs no training: name it in ``pseudo-queries``.
        preset: how passages are written.
        steps: of the optimiser; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: pairs a step.
        learning_rate: of weights trained before; 0 takes one that suits the source.
        fresh_learning_rate: of the others; likewise.
        copy_head: of a ``warm:`` source: copy words of the passage, which a T5 cannot.
        frozen_encoder: of a ``warm:`` source: train the decoder alone.
        save_steps: between checkpoints.
        train_questions: the first so many training questions; 0 takes all.
    """
    from retgen.models.generator_sources import save_generator
    from retgen.models.sources import WARM
    from retgen.train.generator_collection import GeneratorPlan, train_generator_on_collection
    from retgen.train.questions import CollectionQuestions

    corpus = Corpus.open(context.input("collection") / "corpus")
    triplets = read_questions(context.input("collection"), "train")
    triplets = triplets[:train_questions] if train_questions else triplets
    warm = source.startswith(WARM)
    plan = GeneratorPlan(
        source,
        preset=preset,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate or None,
        fresh_learning_rate=fresh_learning_rate or None,
        copy_head=copy_head if warm else None,
        frozen_encoder=frozen_encoder if warm else None,
        save_steps=save_steps,
        seed=context.seed,
    )
    made = train_generator_on_collection(
        corpus,
        CollectionQuestions(triplets, [], pseudo=False),
        context.scratch / "training",
        plan=plan,
        progress=lambda what, done, total, said: context.progress(done, total, f"{what} {said}"),
    )
    model = made.generator.model
    save_generator(model, made.generator.tokenizer, context.folder / FOLDERS["generator"])
    parameters = sum(weights.numel() for weights in model.parameters())
    context.report({"parameters": parameters, "train_seconds": made.seconds})


@stage("pseudo-queries", version="1", seeded=True, isolated=True, needs=["collection", "generator?", "cross-encoder?"])
def pseudo_queries(
    context: StageContext,
    model: str = "",
    number: int = 10,
    top_k: int = 10,
    temperature: float = 1.0,
    preset: str = "jpr",
    max_length: int = 0,
    cross_encoder: str = "",
    keep: int = 0,
    min_score: float | None = None,
) -> None:
    """Questions about every document, sampled of a query generator, perhaps filtered by a cross-encoder.

    Args:
        context: of the stage; its ``generator`` and ``cross-encoder`` are stages that trained one.
        model: a query generator's folder (also one inside the data) or hub id, or ``offline`` for questions made of
            the documents' own statements, where no stage trained one.
        number: of a document, at most (K).
        top_k: tokens that may be drawn at a step.
        temperature: of the samples.
        preset: how the generator reads passages.
        max_length: tokens of a passage; 0 is the preset's.
        cross_encoder: a folder or hub id of the filter, where no stage trained one.
        keep: of a document's questions, its best so many; 0 asks for none.
        min_score: its lowest score of a question; none by default.
    """
    if ("generator" in context.inputs) == bool(model):
        raise UsageError("pseudo queries need one generator: of a stage, or by name", where=context.name)
    corpus = Corpus.open(context.input("collection") / "corpus")
    if model == OFFLINE:
        write_triplets(context.folder / PSEUDO, pseudo_questions(corpus, number, context.seed))
        return
    from retgen.models.query_generator import QueryGenerator

    place = named_model(context, model) if model else context.input("generator") / FOLDERS["generator"]
    sampling = Sampling(number, top_k, temperature, context.seed, keep, min_score)
    written = write_sampled_queries(
        context.scratch / PSEUDO,
        corpus,
        QueryGenerator.from_pretrained(place, preset, max_passage_tokens=max_length or None),
        sampling,
        scorer=_scorer(context, cross_encoder) if sampling.filters else None,
        progress=lambda done: context.progress(done, len(corpus), "pseudo queries"),
    )
    shutil.move(context.scratch / PSEUDO, context.folder / PSEUDO)
    left = f", {written.dropped} left out" if written.dropped else ""
    context.log(f"{written.queries} questions about {written.asked} of {written.documents} documents{left}")


@stage("doct5query", version="1", needs=["collection", "pseudo"])
def doct5query(context: StageContext, queries: int = 0, k: int = 100) -> None:
    """BM25 over documents with their pseudo queries: its index, and its runs of the dev and test questions.

    Args:
        context: of the stage; ``pseudo`` made the queries.
        queries: of a document, the first so many; 0 takes all.
        k: hits of a question.
    """
    from retgen.lexical.doc2query import ExpandedDocuments, queries_by_document

    corpus = Corpus.open(context.input("collection") / "corpus")
    found = queries_by_document(read_triplets(context.input("pseudo") / PSEUDO), corpus)
    if queries:
        found = {doc_id: texts[:queries] for doc_id, texts in found.items()}
    retriever = BM25.build(ExpandedDocuments(corpus, found))
    retriever.save(context.folder / "index")
    search_splits(context, retriever, k)


def _scorer(context: StageContext, name: str) -> PairScorer:
    from retgen.rerank.cross_encoder import CrossEncoder

    if ("cross-encoder" in context.inputs) == bool(name):
        raise UsageError("a filter needs one cross-encoder: of a stage, or by name", where=context.name)
    place = named_model(context, name) if name else context.input("cross-encoder") / FOLDERS["cross_encoder"]
    return CrossEncoder.from_pretrained(place).predict
