"""Stages that train re-rankers on the candidates of training questions: the cross-encoder, the query generator."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch

from retgen.corpus import Corpus
from retgen.devices import pick_device
from retgen.models.prompt_format import find_format
from retgen.models.sources import SCRATCH, WARM
from retgen.recipes.collections import Split
from retgen.recipes.context import StageContext
from retgen.recipes.ranking import candidate_qrels, candidate_queries, candidate_run
from retgen.recipes.ranking_collections import read_judgements
from retgen.recipes.reranking import FOLDERS, keep_states, named_model
from retgen.recipes.stages import stage
from retgen.train.candidates import TrainingCandidates, from_qrels
from retgen.types import Document


@stage("cross-encoder-train", version="1", seeded=True, isolated=True, needs=["collection", "candidates"])
def cross_encoder_train(
    context: StageContext,
    source: str = "warm:minilm",
    encoder_layers: int = 0,
    join_layer: int = 0,
    match_marks: bool = False,
    dropout: float = -1.0,
    objective: Literal["binary", "ranking"] = "binary",
    steps: int = 0,
    epochs: float = 2.0,
    batch_size: int = 128,
    negatives: int = 0,
    learning_rate: float = 5e-5,
    warmup: float = 0.1,
    frozen_layers: int = 0,
    max_length: int = 512,
    top_n: int = 32,
    eval_steps: int = 0,
    dev_questions: int = 100,
    save_steps: int = 100,
) -> None:
    """Train a cross-encoder (BERT-FT). The defaults are the paper's.

    Args:
        context: of the stage.
        source: of the weights: a name, or a folder inside the data.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; 0 keeps all.
        join_layer: of a ``warm:`` BERT, the layer up to which it reads question and passage apart; 0 joins at once.
        match_marks: of a ``warm:`` or ``scratch:`` source, mark the tokens that question and passage share.
        dropout: of every layer; below 0 the source's own.
        objective: every pair relevant or not (the paper's), or the softmax over a question's candidates.
        steps: of the optimiser; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: pairs a step.
        negatives: of a question, drawn anew for every epoch; 0 takes all.
        learning_rate: of AdamW.
        warmup: share of the steps in which the rate rises.
        frozen_layers: lowest layers that keep their weights.
        max_length: tokens of a pair.
        top_n: of a question's candidates, so many from the top.
        eval_steps: between measurements on dev questions; 0 measures none.
        dev_questions: how many are asked then.
        save_steps: between checkpoints.
    """
    from retgen.models.cross_encoder_sources import load_cross_encoder
    from retgen.rerank.cross_encoder import CrossEncoder
    from retgen.train.cross_encoder import CrossEncoderTraining, DevCandidates, train_cross_encoder

    corpus = Corpus.open(context.input("collection") / "corpus")
    found = labelled(context, "train", top_n)
    context.log(str(found.statistics))
    torch.manual_seed(context.seed)
    source = str(named_model(context, source))
    model, tokenizer = load_cross_encoder(
        source,
        texts=[document.contents for document in corpus] if source.startswith(SCRATCH) else None,
        dropout=dropout if dropout >= 0 else None,
        encoder_layers=encoder_layers or None if source.startswith(WARM) else None,
        join_layer=join_layer or None if source.startswith(WARM) else None,
        match_marks=match_marks,
    )
    reranker = CrossEncoder(model, tokenizer, max_length=max_length, dtype="fp32")
    keep_states(reranker.model, context.cache / "states")
    dev = None
    if eval_steps:
        dev = DevCandidates.from_candidates(first_by_hash(labelled(context, "dev", top_n), dev_questions), corpus)
    record = train_cross_encoder(
        reranker,
        found,
        corpus,
        context.scratch / "training",
        options=CrossEncoderTraining(
            objective=objective,
            max_steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            negatives=negatives or None,
            learning_rate=learning_rate,
            warmup_steps=warmup,
            frozen_layers=frozen_layers,
            eval_steps=eval_steps,
            save_steps=save_steps,
            seed=context.seed,
        ),
        dev=dev,
        progress=reporter(context),
    )
    reranker.save(context.folder / FOLDERS["cross_encoder"])
    context.report({"parameters": _parameters(reranker.model), "train_seconds": record.seconds})


@stage("query-generator-train", version="1", seeded=True, isolated=True, needs=["collection", "candidates"])
def query_generator_train(
    context: StageContext,
    source: str = "warm:minilm",
    preset: str = "jpr",
    copy_head: bool = True,
    frozen_encoder: bool = False,
    encoder_layers: int = 0,
    decoder_layers: int = 2,
    steps: int = 0,
    epochs: float = 2.0,
    batch_size: int = 64,
    learning_rate: float = 5e-5,
    fresh_learning_rate: float = 1e-3,
    warmup: float = 0.1,
    max_length: int = 0,
    max_positives: int = 16,
    eval_steps: int = 0,
    dev_questions: int = 100,
    save_steps: int = 100,
) -> None:
    """Train a query generator on gold passages and their questions (T5-FT). The defaults are the paper's.

    Args:
        context: of the stage.
        source: of the weights: a name, or a folder inside the data.
        preset: how passages and questions are written.
        copy_head: of a ``warm:`` source.
        frozen_encoder: of a ``warm:`` source: the encoder keeps its weights.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; 0 keeps all.
        decoder_layers: of a ``warm:`` source.
        steps: of the optimiser; 0 trains for ``epochs``.
        epochs: passes over the pairs.
        batch_size: pairs a step.
        learning_rate: of weights that were trained before.
        fresh_learning_rate: of the others.
        warmup: share of the steps in which the rates rise.
        max_length: tokens of a passage; 0 is the preset's.
        max_positives: passages of a question.
        eval_steps: between measurements of the perplexity of dev questions; 0 measures none.
        dev_questions: how many.
        save_steps: between checkpoints.
    """
    from retgen.models.generator_sources import load_generator, save_generator
    from retgen.train.query_generator import GeneratorTraining, train_query_generator

    corpus = Corpus.open(context.input("collection") / "corpus")
    pairs = gold_pairs(context, "train", corpus, max_positives)
    torch.manual_seed(context.seed)
    source = str(named_model(context, source))
    form = find_format(preset)
    form = replace(form, max_passage_tokens=max_length) if max_length else form
    texts = [*(document.contents for document in corpus), *(query for _, query in pairs)]
    model, tokenizer = load_generator(
        source,
        texts=texts,
        **(
            {
                "copy_head": copy_head,
                "frozen_encoder": frozen_encoder,
                "decoder_layers": decoder_layers,
                "encoder_layers": encoder_layers or None,
            }
            if source.startswith(WARM)
            else {}
        ),
    )
    model.to(pick_device())  # type: ignore[arg-type]
    record = train_query_generator(
        model,
        tokenizer,
        pairs,
        context.scratch / "training",
        options=GeneratorTraining(
            max_steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            fresh_learning_rate=fresh_learning_rate,
            warmup_steps=warmup,
            eval_steps=eval_steps,
            save_steps=save_steps,
            seed=context.seed,
        ),
        preset=form,
        dev=gold_pairs(context, "dev", corpus, 1)[:dev_questions] if eval_steps else None,
        progress=reporter(context),
    )
    save_generator(model, tokenizer, context.folder / FOLDERS["generator"])
    (context.folder / "history.json").write_text(json.dumps(record.history))
    context.report({"parameters": _parameters(model), "train_seconds": record.seconds})


def gold_pairs(context: StageContext, split: Split, corpus: Corpus, most: int) -> list[tuple[Document, str]]:
    """A split's questions, each with its relevant passages, so many at most, the best judged first."""
    judged = read_judgements(context.input("collection"), split)
    pairs = []
    for query in candidate_queries(context, split):
        grades = {doc_id: grade for doc_id, grade in judged.get(query.id, {}).items() if grade >= 1}
        best = sorted(grades, key=lambda doc_id: (-grades[doc_id], zlib.crc32(doc_id.encode())))[:most]
        pairs += [(corpus[doc_id], query.text) for doc_id in best if doc_id in corpus]
    return pairs


def labelled(context: StageContext, split: Split, top_n: int) -> TrainingCandidates:
    """The candidates of a split's questions with their labels; questions without a relevant one are counted."""
    run, queries = candidate_run(context, split), candidate_queries(context, split)
    return from_qrels(queries, run, candidate_qrels(context, split), top_n=top_n)


def first_by_hash(candidates: TrainingCandidates, most: int) -> TrainingCandidates:
    """So many questions, chosen by a hash of their ids."""
    chosen = sorted(candidates, key=lambda question: zlib.crc32(question.query.id.encode()))[:most]
    return TrainingCandidates(tuple(chosen), candidates.statistics)


def reporter(context: StageContext) -> Callable[[int, int, str], None]:
    """What a training calls with (step, steps, what was last logged)."""

    def report(step: int, steps: int, last: str) -> None:
        context.progress(step, steps, f"training {last}")

    return report


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
