"""Stages of UniGen itself: training, and what a trained one finds and answers, with its controls."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from retgen.connect import pseudo_questions
from retgen.corpus import Corpus
from retgen.generative.over_index import BM25_CONTEXT
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.sources import WARM
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.contexts import context_settings, inputs_of, read_vectors
from retgen.recipes.measuring import write_outcome
from retgen.recipes.reranking import named_model
from retgen.recipes.stages import stage
from retgen.recipes.written import docid_connectors, read_pseudo
from retgen.train.build import LOCAL_OPTIONS, DocidOptions, build_unigen
from retgen.train.examples import finetuning_examples, pretraining_examples
from retgen.train.unigen import DevSet, UniGenTraining, train_unigen


@stage(
    "unigen-train",
    version="2",
    seeded=True,
    isolated=True,
    needs=["collection", "contexts?", "docids?", "pseudo?", "embeddings?"],
    added=["docid_options", "share_encoder", "max_answer_tokens"],
)
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
    docid_options: dict[str, Any] | None = None,
    share_encoder: bool = True,
    max_answer_tokens: int = 24,
) -> None:
    """Train a UniGen: on ⟨q_k + d⟩ for ``pretraining_steps``, then on labelled questions for ``steps``.

    Args:
        context: of the stage; without contexts the model reads plain questions, without pseudo answers of a writer the
            first stage takes those its pseudo questions were made around.
        source: of the weights: a name, or a folder inside the data.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; 0 keeps all.
        decoder_layers: of a ``warm:`` source.
        docid_scheme: ``lead``, ``title``, one of codes, or ``connector`` where the stage is given ``docids``.
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
        docid_options: of the docid scheme.
        share_encoder: one encoder for both decoders; False is the paper's ablation.
        max_answer_tokens: longer answers are cut, in training and when asked.
    """
    seed = context.seed
    corpus = Corpus.open(context.input("collection") / "corpus")
    triplets = read_questions(context.input("collection"), "train")
    triplets = triplets[:train_questions] if train_questions else triplets
    reads_context = "contexts" in context.inputs
    documents = list(corpus)
    source = str(named_model(context, source))
    system = build_unigen(
        documents,
        source,
        docids=DocidOptions(
            docid_scheme,
            docid_words,
            permute_seed=seed if permuted_docids else None,
            options=docid_options or {},
        ),
        vectors=read_vectors(context, len(documents)),
        connectors=docid_connectors(context, docid_scheme),
        settings=UniGenSettings(
            max_input_tokens=max_input_tokens,
            max_answer_tokens=max_answer_tokens,
            answer_strategy=answer_strategy if reads_context or answer_strategy == "free" else "free",
            **context_settings(context),
        ),
        corpus_fingerprint=corpus.fingerprint,
        extra_texts=[triplet.query.text for triplet in triplets],
        seed=seed,
        **(LOCAL_OPTIONS if local_options and reads_context else {}),
        **_network(source, encoder_layers, decoder_layers, share_encoder),
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
        # BM25's contexts alone have blocks that open with a docid. What a language model writes has none, nor has a
        # plain question: neither has what stands in for them (the paper's q_k + d).
        blocks = system.settings.context == BM25_CONTEXT
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
    queries = inputs_of(context, triplets, "train")
    if later_rounds and reads_context:
        again = {query.id: query for query in inputs_of(context, triplets, "train.enhanced")}
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


def _drawn(query_id: str, seed: int) -> float:
    return zlib.crc32(f"{seed}:{query_id}".encode()) / 2**32


def _network(source: str, encoder_layers: int, decoder_layers: int, share_encoder: bool) -> dict[str, Any]:
    options: dict[str, Any] = {} if share_encoder else {"share_encoder": False}
    if source.startswith(WARM):
        options["decoder_layers"] = decoder_layers
        if encoder_layers:
            options["encoder_layers"] = encoder_layers
    return options


def _reporter(context: StageContext, what: str) -> Callable[[int, int, str], None]:
    def report(step: int, steps: int, last: str) -> None:
        context.progress(step, steps, f"{what} {last}")

    return report


def _dev_set(context: StageContext, questions: int) -> DevSet:
    triplets = read_questions(context.input("collection"), "dev")
    triplets = sorted(triplets, key=lambda item: zlib.crc32(item.query.id.encode()))[:questions]
    return DevSet(inputs_of(context, triplets, "dev"), triplets)


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
        queries = inputs_of(context, triplets, control or split)
        start = time.perf_counter()
        run, answers = system.search_and_answer(queries, k=10, progress=context.progress)
        write_outcome(context.folder, run, answers, time.perf_counter() - start, split)
