"""Stages of UniGen's rows: contexts, training, evaluation with its controls, iteration, fusion with BM25."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from retgen.connect import pseudo_questions
from retgen.connect.blocks import ContextBlock, render
from retgen.connect.controls import foreign_context, shuffle_blocks
from retgen.connect.offline import OfflineWriter
from retgen.corpus import Corpus
from retgen.generative.over_index import BM25_CONTEXT
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.iterate import iterate
from retgen.lexical.bm25 import BM25
from retgen.models.sources import WARM
from retgen.recipes.collections import SPLITS, read_connectors, read_questions, write_connectors
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import write_outcome
from retgen.recipes.stages import stage
from retgen.recipes.work import read_record
from retgen.recipes.written import docid_connectors, read_pseudo
from retgen.train.build import LOCAL_OPTIONS, DocidOptions, build_unigen, offline_writer
from retgen.train.examples import finetuning_examples, pretraining_examples
from retgen.train.unigen import DevSet, UniGenTraining, train_unigen
from retgen.types import Connector, Document, Query, Triplet

Context = Literal["bm25", "none"]


def _writer(context: StageContext, docids: DocidOptions, passages: int, listed: int) -> tuple[Corpus, OfflineWriter]:
    corpus = Corpus.open(context.input("collection") / "corpus")
    retriever = BM25.open(context.input("bm25") / "index", corpus)
    texts = dict(docids.texts(list(corpus)))
    return corpus, offline_writer(retriever, corpus, corpus, texts, passages=passages, listed=listed)


@stage("contexts", version="2", needs=["collection", "bm25"])
def contexts(
    context: StageContext,
    words: int = 90,
    passages: int = 3,
    listed: int = 10,
    docid_scheme: str = "lead",
    docid_words: int = 6,
) -> None:
    """The "BM25 context" of every question, and the controls' contexts of the test questions.

    Args:
        context: of the stage.
        words: of quoted sentences in one context.
        passages: that are quoted.
        listed: passages that are named by their docid.
        docid_scheme: ``lead`` or ``title``.
        docid_words: words of a lead.
    """
    _, writer = _writer(context, DocidOptions(docid_scheme, docid_words), passages, listed)
    for split in SPLITS:
        queries = [triplet.query for triplet in read_questions(context.input("collection"), split)]
        blocks = writer.blocks(queries, words)
        write_connectors(context.folder / f"{split}.jsonl", _connected(queries, blocks, BM25_CONTEXT))
        if split == "train":
            again = _next_round(context, writer, queries, words, listed)
            write_connectors(context.folder / "train.enhanced.jsonl", again)
        if split == "test":
            shuffled = [
                shuffle_blocks(row, zlib.crc32(query.id.encode())) for query, row in zip(queries, blocks, strict=True)
            ]
            foreign = foreign_context(blocks, seed=0)
            for name, rows in (("shuffled", shuffled), ("foreign", foreign)):
                write_connectors(context.folder / f"{name}.jsonl", _connected(queries, rows, f"control:{name}"))
        context.progress(SPLITS.index(split) + 1, len(SPLITS), split)


def _next_round(
    context: StageContext, writer: OfflineWriter, queries: list[Query], words: int, listed: int
) -> list[Query]:
    """Training questions as a later round would ask them: BM25's documents, and an answer span from the first of them.

    The answer is found by form and words alone, right about as often as wrong, so that a model trained on it learns to
    weigh a previous answer and not to trust it. No gold answer is used.
    """
    corpus = Corpus.open(context.input("collection") / "corpus")
    run = BM25.open(context.input("bm25") / "index", corpus).search(queries, k=listed)
    found = [[corpus[doc_id] for doc_id in run.doc_ids(query.id)] for query in queries]
    first = [documents[0] if documents else Document("", "") for documents in found]
    connectors = writer.enhance(queries, found, writer.answer(queries, first), words=words)
    return [query.with_connector(text) for query, text in zip(queries, connectors, strict=True)]


def _connected(queries: list[Query], blocks: list[list[ContextBlock]], writer: str) -> list[Query]:
    return [
        query.with_connector(Connector(render(row, query.text), writer))
        for query, row in zip(queries, blocks, strict=True)
    ]


@stage("unigen-train", version="2", seeded=True, isolated=True, needs=["collection", "contexts?", "docids?", "pseudo?"])
def unigen_train(
    context: StageContext,
    source: str = "warm:minilm",
    encoder_layers: int = 0,
    decoder_layers: int = 2,
    docid_scheme: str = "lead",
    docid_words: int = 6,
    permuted_docids: bool = False,
    max_input_tokens: int = 256,
    answer_strategy: str = "span",
    local_options: bool = True,
    pretraining_steps: int = 0,
    pseudo_per_document: int = 5,
    steps: int = 1000,
    batch_size: int = 16,
    learning_rate: float = 2e-4,
    fresh_learning_rate: float = 1e-3,
    frozen_layers: int = 0,
    shuffle_passages: float = 0.5,
    later_rounds: float = 0.0,
    warmup_steps: int = 50,
    save_steps: int = 100,
    eval_steps: int = 0,
    dev_questions: int = 200,
    train_questions: int = 0,
) -> None:
    """Train a UniGen: on ⟨q_k + d⟩ for ``pretraining_steps``, then on labelled questions for ``steps``.

    Args:
        context: of the stage; without contexts the model reads plain questions, without pseudo answers of a writer the
            first stage takes those its pseudo questions were made around.
        source: of the weights.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; 0 keeps all.
        decoder_layers: of a ``warm:`` source.
        docid_scheme: ``lead``, ``title``, or ``connector`` where the stage is given ``docids``.
        docid_words: words of a lead.
        permuted_docids: the control in which every document bears another's docid.
        max_input_tokens: longer inputs are cut.
        answer_strategy: how answers are decoded.
        local_options: copy head and span head, which the paper has not.
        pretraining_steps: of the first stage; 0 leaves it out.
        pseudo_per_document: K of the paper, where the first stage is not left out.
        steps: of the second stage.
        batch_size: examples a step.
        learning_rate: of weights that were trained before.
        fresh_learning_rate: of the others.
        frozen_layers: of the encoder.
        shuffle_passages: share of examples read with passages in random order.
        later_rounds: share of examples asked as a later round would ask them, with a previous answer.
        warmup_steps: of each stage.
        save_steps: between checkpoints.
        eval_steps: between measurements on dev questions; 0 measures none.
        dev_questions: how many are asked then.
        train_questions: the first so many training questions; 0 takes all.
    """
    seed = context.seed
    corpus = Corpus.open(context.input("collection") / "corpus")
    triplets = read_questions(context.input("collection"), "train")
    triplets = triplets[:train_questions] if train_questions else triplets
    reads_context = "contexts" in context.inputs
    system = build_unigen(
        list(corpus),
        source,
        docids=DocidOptions(docid_scheme, docid_words, permute_seed=seed if permuted_docids else None),
        connectors=docid_connectors(context, docid_scheme),
        settings=UniGenSettings(
            max_input_tokens=max_input_tokens,
            answer_strategy=answer_strategy if reads_context or answer_strategy == "free" else "free",
            **_context_settings(context),
        ),
        corpus_fingerprint=corpus.fingerprint,
        extra_texts=[triplet.query.text for triplet in triplets],
        seed=seed,
        **(LOCAL_OPTIONS if local_options and reads_context else {}),
        **_depths(source, encoder_layers, decoder_layers),
    )
    options = UniGenTraining(
        batch_size=batch_size,
        learning_rate=learning_rate,
        fresh_learning_rate=fresh_learning_rate,
        warmup_steps=warmup_steps,
        save_steps=save_steps,
        eval_steps=eval_steps,
        seed=seed,
    )
    history: list[dict[str, float]] = []
    if pretraining_steps:
        answered = "pseudo" in context.inputs
        pseudo = (
            read_pseudo(context.input("pseudo")) if answered else pseudo_questions(corpus, pseudo_per_document, seed)
        )
        # What a language model writes has no blocks: neither has what stands in for it (the paper's q_k + d).
        blocks = system.settings.context in ("", BM25_CONTEXT)
        examples = pretraining_examples(pseudo, corpus, system.table, docid_in_input=blocks)
        first = replace(options, max_steps=pretraining_steps, shuffle_passages=0.0, eval_steps=0)
        record = train_unigen(
            system,
            examples,
            context.scratch / "pretraining",
            options=first,
            progress=_reporter(context, "pre-training"),
        )
        history += [{**row, "stage": 0} for row in record.history]
    queries = _inputs(context, triplets, "train")
    if later_rounds and reads_context:
        again = {query.id: query for query in _inputs(context, triplets, "train.enhanced")}
        queries = [again[query.id] if _drawn(query.id, seed) < later_rounds else query for query in queries]
    record = train_unigen(
        system,
        finetuning_examples(triplets, queries, system.table),
        context.scratch / "finetuning",
        options=replace(
            options, max_steps=steps, frozen_layers=frozen_layers, shuffle_passages=shuffle_passages * reads_context
        ),
        dev=_dev_set(context, dev_questions) if eval_steps else None,
        progress=_reporter(context, "training"),
    )
    history += [{**row, "stage": 1} for row in record.history]
    system.save(context.folder / "unigen")
    (context.folder / "history.json").write_text(json.dumps(history))
    parameters = sum(parameter.numel() for parameter in system.model.parameters())
    context.report({"parameters": parameters, "train_seconds": record.seconds})


def _context_settings(context: StageContext) -> dict[str, Any]:
    """How the contexts were made that a model is trained on, for those who ask it over an index later."""
    if "contexts" not in context.inputs:
        return {}
    made = read_record(context.input("contexts"))
    if made.kind == "q-connectors":
        return {"context": made.params["by"]["model"], "context_words": made.params["words"]}
    taken = {"words": "context_words", "passages": "context_passages", "listed": "context_listed"}
    return {"context": BM25_CONTEXT, **{taken[name]: made.params[name] for name in taken if name in made.params}}


def _drawn(query_id: str, seed: int) -> float:
    return zlib.crc32(f"{seed}:{query_id}".encode()) / 2**32


def _depths(source: str, encoder_layers: int, decoder_layers: int) -> dict[str, Any]:
    if not source.startswith(WARM):
        return {}
    return {"decoder_layers": decoder_layers, **({"encoder_layers": encoder_layers} if encoder_layers else {})}


def _reporter(context: StageContext, what: str) -> Callable[[int, int, str], None]:
    def report(step: int, steps: int, last: str) -> None:
        context.progress(step, steps, f"{what} {last}")

    return report


def _inputs(context: StageContext, triplets: list[Triplet], name: str) -> list[Query]:
    if "contexts" not in context.inputs:
        return [triplet.query for triplet in triplets]
    wanted = {triplet.query.id for triplet in triplets}
    return [query for query in read_connectors(context.input("contexts") / f"{name}.jsonl") if query.id in wanted]


def _dev_set(context: StageContext, questions: int) -> DevSet:
    triplets = read_questions(context.input("collection"), "dev")
    triplets = sorted(triplets, key=lambda item: zlib.crc32(item.query.id.encode()))[:questions]
    return DevSet(_inputs(context, triplets, "dev"), triplets)


@stage("unigen-answers", version="1", seeded=True, isolated=True, needs=["collection", "model", "contexts?"])
def unigen_answers(context: StageContext, control: Literal["", "shuffled", "foreign"] = "", dev: bool = False) -> None:
    """A trained UniGen's run and answers of the test questions.

    Args:
        context: of the stage; without contexts the model reads plain questions.
        control: the contexts of a control in place of the questions' own.
        dev: also of the dev questions, for a fusion's weight.
    """
    system = UniGen.open(context.input("model") / "unigen")
    for split in ("dev", "test") if dev else ("test",):
        triplets = read_questions(context.input("collection"), split)
        queries = _inputs(context, triplets, control or split)
        start = time.perf_counter()
        run, answers = system.search_and_answer(queries, k=10, progress=context.progress)
        write_outcome(context.folder, run, answers, time.perf_counter() - start, split)


@stage("unigen-iterations", version="1", seeded=True, isolated=True, needs=["collection", "bm25", "model", "contexts"])
def unigen_iterations(
    context: StageContext,
    rounds: int = 2,
    feedback_documents: int = 10,
    words: int = 90,
    passages: int = 3,
    listed: int = 10,
    docid_scheme: str = "lead",
    docid_words: int = 6,
) -> None:
    """UniGen-Iter without refit: every round's run and answers as ``round<n>``, the last also as ``test``."""
    system = UniGen.open(context.input("model") / "unigen")
    corpus, writer = _writer(context, DocidOptions(docid_scheme, docid_words), passages, listed)
    queries = _inputs(context, read_questions(context.input("collection"), "test"), "test")
    start = time.perf_counter()
    done = iterate(
        system,
        queries,
        corpus,
        writer,
        rounds=rounds,
        feedback_documents=feedback_documents,
        words=words,
        progress=lambda number, asked, of: context.progress(asked, of, f"round {number}"),
    )
    seconds = time.perf_counter() - start
    for round_ in done:
        write_outcome(context.folder, round_.run, round_.answers, round_.seconds, f"round{round_.number}")
        write_connectors(context.folder / f"round{round_.number}.connectors.jsonl", round_.queries)
    write_outcome(context.folder, done[-1].run, done[-1].answers, seconds)
