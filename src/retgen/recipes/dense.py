"""Stages of dense rows: DPR's training, ANCE's rounds, and the search with whatever bi-encoder."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from retgen.corpus import Corpus
from retgen.devices import pick_device
from retgen.errors import UsageError
from retgen.lexical.bm25 import BM25
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import search_splits
from retgen.recipes.reranker_training import reporter
from retgen.recipes.reranking import named_model
from retgen.recipes.stages import stage
from retgen.train.candidates import LabelledCandidates
from retgen.types import Triplet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from retgen.train.bi_encoder import DevPool

ENCODER = "bi-encoder"
"""Where a stage that trains a bi-encoder keeps it."""


@stage("dpr-train", version="1", seeded=True, isolated=True, needs=["collection", "bm25"])
def dpr_train(
    context: StageContext,
    source: str = "minilm",
    towers: int = 1,
    pooling: Literal["mean", "cls"] = "mean",
    similarity: Literal["cosine", "dot"] = "cosine",
    max_length: int = 0,
    steps: int = 0,
    epochs: float = 40.0,
    batch_size: int = 128,
    negatives: int = 1,
    depth: int = 20,
    scale: float = 0.0,
    learning_rate: float = 2e-5,
    warmup: float = 0.1,
    frozen_layers: int = 0,
    eval_steps: int = 0,
    dev_questions: int = 100,
    save_steps: int = 100,
    train_questions: int = 0,
) -> None:
    """Train a bi-encoder on in-batch and BM25's hard negatives (DPR). The defaults are the paper's but for the source.

    Args:
        context: of the stage.
        source: of the weights, also a folder inside the data; the paper's is ``warm:bert-base-uncased`` with two
            towers, cls and dot.
        towers: 1, or 2 for an encoder of questions and one of documents.
        pooling: of ``warm:`` and ``scratch:`` sources: ``mean`` or ``cls``.
        similarity: of them: ``cosine`` or ``dot``.
        max_length: tokens of a text; 0 is the source's own.
        steps: of the optimiser; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: questions a step.
        negatives: hard ones of a question; 0 leaves the batch's other passages alone.
        depth: they are drawn from BM25's best so many.
        scale: of the similarities; 0 is 20 for cosines and 1 for inner products.
        learning_rate: of AdamW.
        warmup: share of the steps in which the rate rises.
        frozen_layers: lowest layers that keep their weights.
        eval_steps: between measurements on dev questions; 0 measures none.
        dev_questions: how many are asked then, among the passages that BM25 found for them.
        save_steps: between checkpoints.
        train_questions: the first so many training questions; 0 takes all.
    """
    from retgen.train.bi_encoder import BiEncoderTraining, train_bi_encoder
    from retgen.train.dense_collection import begun_once, bm25_negatives

    corpus = Corpus.open(context.input("collection") / "corpus")
    triplets = _training_questions(context, train_questions)
    retriever = BM25.open(context.input("bm25") / "index", corpus)
    candidates = bm25_negatives(triplets, retriever, corpus, depth)
    encoder = begun_once(
        context.scratch / "built",
        str(named_model(context, source)),
        corpus,
        triplets,
        seed=context.seed,
        pooling=pooling,
        similarity=similarity,
        towers=towers,
        max_length=max_length or None,
    )
    record = train_bi_encoder(
        encoder,
        candidates,
        corpus,
        context.scratch / "training",
        options=BiEncoderTraining(
            max_steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            negatives=negatives,
            scale=scale,
            learning_rate=learning_rate,
            warmup_steps=warmup,
            frozen_layers=frozen_layers,
            eval_steps=eval_steps,
            save_steps=save_steps,
            seed=context.seed,
        ),
        dev=_dev_pool(context, corpus, retriever, depth, dev_questions) if eval_steps else None,
        progress=reporter(context),
    )
    _keep(context, encoder, record.history, record.seconds)


@stage("ance-train", version="1", seeded=True, isolated=True, needs=["collection", "model"])
def ance_train(
    context: StageContext,
    rounds: int = 3,
    steps: int = 0,
    epochs: float = 1.0,
    batch_size: int = 128,
    negatives: int = 1,
    depth: int = 200,
    index: str = "flat",
    scale: float = 0.0,
    learning_rate: float = 1e-6,
    warmup: float = 0.1,
    frozen_layers: int = 0,
    save_steps: int = 100,
    train_questions: int = 0,
) -> None:
    """Train a bi-encoder in rounds on what its own index, built anew before each, gives for wrong answers (ANCE).

    The share of a round's negatives that the round before did not have is reported as ``new_negatives``.

    Args:
        context: of the stage; ``model`` is what it begins with, DPR in the paper.
        rounds: at least 1.
        steps: of each round; 0 trains for ``epochs``.
        epochs: of each round.
        batch_size: questions a step.
        negatives: of a question.
        depth: they are drawn from the model's own best so many (the paper: 200).
        index: ``flat``, ``hnsw`` or ``ivf-pq``.
        scale: of the similarities; 0 is 20 for cosines and 1 for inner products.
        learning_rate: of AdamW.
        warmup: share of a round's steps in which the rate rises.
        frozen_layers: lowest layers that keep their weights.
        save_steps: between checkpoints.
        train_questions: the first so many training questions; 0 takes all.
    """
    from retgen.dense.encoder import load_encoder
    from retgen.train.ance import train_ance
    from retgen.train.bi_encoder import BiEncoderTraining

    corpus = Corpus.open(context.input("collection") / "corpus")
    encoder = load_encoder(str(context.input("model") / ENCODER), str(pick_device()))
    done = train_ance(
        encoder,
        _training_questions(context, train_questions),
        corpus,
        context.scratch / "training",
        rounds=rounds,
        options=BiEncoderTraining(
            max_steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            negatives=negatives,
            scale=scale,
            learning_rate=learning_rate,
            warmup_steps=warmup,
            frozen_layers=frozen_layers,
            save_steps=save_steps,
            seed=context.seed,
        ),
        depth=depth,
        index=index,
        progress=lambda what, step, steps, said: context.progress(step, steps, f"{what} {said}"),
    )
    history = [{**row, "round": number} for number, one in enumerate(done, 1) for row in one.record.history]
    new = [_new_share(before.candidates, after.candidates) for before, after in itertools.pairwise(done)]
    context.log(f"new among the negatives of each round: {', '.join(f'{share:.0%}' for share in new) or 'one round'}")
    _keep(context, encoder, history, sum(one.record.seconds for one in done))
    context.report({"new_negatives": sum(new) / len(new) if new else None})


@stage("dense-search", version="1", needs=["collection", "model?"])
def dense_search(context: StageContext, model: str = "", index: str = "flat", k: int = 100) -> None:
    """A bi-encoder's index of the collection, and its runs of the dev and test questions.

    Args:
        context: of the stage; its ``model`` is a stage that trained one.
        model: a folder (also one inside the data), a hub id, or ``minilm``, where no stage trained one. Its parameters
            are then reported.
        index: ``flat`` (exact), ``hnsw``, ``ivf-pq``, or one with its settings.
        k: hits of a question.
    """
    from retgen.dense import DenseRetriever

    if ("model" in context.inputs) == bool(model):
        raise UsageError("a dense search needs one model: of a stage, or by name", where=context.name)
    corpus = Corpus.open(context.input("collection") / "corpus")
    name = str(named_model(context, model) if model else context.input("model") / ENCODER)
    retriever = DenseRetriever.build(corpus, name, index=index, device=str(pick_device()), progress=context.progress)
    retriever.save(context.folder / "index")
    search_splits(context, retriever, k)
    if model:
        context.report({"parameters": sum(weights.numel() for weights in retriever.encoder.parameters())})


@stage("index-bytes", version="1", needs=["index"])
def index_bytes(context: StageContext, folder: str = "index") -> None:
    """How many bytes a stage's index takes on disk, as ``index_bytes``.

    Args:
        context: of the stage.
        folder: of the needed stage, in which the index stands; a model that is not searched in is no part of it.
    """
    place = context.input("index") / folder
    files = [path for path in place.rglob("*") if path.is_file()]
    if not files:
        raise UsageError(f"the needed stage keeps nothing in {folder!r}", where=context.name)
    context.report({"index_bytes": sum(path.stat().st_size for path in files)})


def _training_questions(context: StageContext, most: int) -> list[Triplet]:
    triplets = read_questions(context.input("collection"), "train")
    return triplets[:most] if most else triplets


def _dev_pool(context: StageContext, corpus: Corpus, retriever: BM25, depth: int, most: int) -> DevPool | None:
    from retgen.train.bi_encoder import DevPool
    from retgen.train.dense_collection import bm25_negatives

    triplets = sorted(
        read_questions(context.input("collection"), "dev"), key=lambda item: zlib.crc32(item.query.id.encode())
    )
    return DevPool.of(bm25_negatives(triplets[:most], retriever, corpus, depth), corpus)


def _keep(context: StageContext, encoder: SentenceTransformer, history: Sequence[Any], seconds: float) -> None:
    from retgen.dense.encoder import save_encoder

    save_encoder(encoder, context.folder / ENCODER)
    (context.folder / "history.json").write_text(json.dumps(history))
    parameters = sum(weights.numel() for weights in encoder.parameters())
    context.report({"parameters": parameters, "train_seconds": seconds})


def _new_share(before: Sequence[LabelledCandidates], after: Sequence[LabelledCandidates]) -> float:
    known = {one.query.id: set(one.negatives) for one in before}
    names = [(one.query.id, name) for one in after for name in one.negatives]
    return sum(name not in known.get(query_id, set()) for query_id, name in names) / max(1, len(names))
