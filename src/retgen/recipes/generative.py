"""Stages of the generative retrievers that UniGen is compared with: their embeddings, training, and searching.

What each of them is, is data: `retgen.train.systems`. One trainer serves them all, and UniGen's own folder keeps them.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from retgen.connect import pseudo_questions
from retgen.corpus import Corpus
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.sources import WARM
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext, StageError
from retgen.recipes.contexts import VECTORS, read_vectors
from retgen.recipes.measuring import write_outcome
from retgen.recipes.reranking import named_model
from retgen.recipes.stages import stage
from retgen.recipes.written import read_pseudo
from retgen.train.build import build_unigen
from retgen.train.docid_options import DocidOptions, document_vectors
from retgen.train.options import UniGenTraining
from retgen.train.pairs import Material
from retgen.train.stages import TrainingStage, train_in_stages
from retgen.train.systems import SYSTEMS, GenerativeSystem
from retgen.train.unigen import DevSet


@stage("document-embeddings", version="1", isolated=True, needs=["collection"])
def document_embeddings(context: StageContext, model: str = "minilm", batch_size: int = 64) -> None:
    """Embeddings of all documents, made once for all rows whose docids are made of them.

    Args:
        context: of the stage.
        model: ``minilm``, a folder (also one inside the data) or a hub id of a sentence-transformers model.
        batch_size: texts encoded at once.
    """
    corpus = Corpus.open(context.input("collection") / "corpus")
    rows = document_vectors(
        list(corpus), str(named_model(context, model)), batch_size=batch_size, progress=context.progress
    )
    np.save(context.folder / VECTORS, rows)


def _register(name: str) -> None:
    system = SYSTEMS[name]

    def train(
        context: StageContext,
        source: str = "warm:minilm",
        stages: tuple[TrainingStage, ...] = system.stages,
        steps: tuple[int, ...] = (),
        batch_size: int | None = None,
        learning_rate: float | None = None,
        fresh_learning_rate: float | None = None,
        warmup_steps: int | None = None,
        docid_scheme: str = system.docid_scheme,
        docid_options: dict[str, Any] | None = None,
        permuted_docids: bool = False,
        max_input_tokens: int = system.max_input_tokens,
        num_beams: int = system.num_beams,
        dropout: float | None = system.dropout,
        prefix_head_layers: int = system.prefix_head_layers,
        docid_outputs_only: bool = system.docid_outputs_only,
        encoder_layers: int | None = None,
        decoder_layers: int = 2,
        frozen_layers: int = 0,
        pseudo_per_document: int = 10,
        train_questions: int = 0,
        save_steps: int = 100,
        eval_steps: int = 0,
        dev_questions: int = 200,
    ) -> None:
        own = system.docid_options if docid_scheme == system.docid_scheme else {}
        changes = {
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "fresh_learning_rate": fresh_learning_rate,
            "warmup_steps": warmup_steps,
        }
        chosen = replace(
            system,
            docid_scheme=docid_scheme,
            docid_options={**own, **(docid_options or {})},
            stages=_changed(context, stages, steps, changes),
            max_input_tokens=max_input_tokens,
            num_beams=num_beams,
            dropout=dropout,
            prefix_head_layers=prefix_head_layers,
            docid_outputs_only=docid_outputs_only,
        )
        depths = {"encoder_layers": encoder_layers, "decoder_layers": decoder_layers}
        _train(
            context,
            chosen,
            source=str(named_model(context, source)),
            depths=depths if source.startswith(WARM) else {},
            permuted_docids=permuted_docids,
            pseudo_per_document=pseudo_per_document,
            train_questions=train_questions,
            base=UniGenTraining(
                save_steps=save_steps, eval_steps=eval_steps, frozen_layers=frozen_layers, seed=context.seed
            ),
            dev_questions=dev_questions,
        )

    train.__doc__ = f"""Train a {name} (`retgen.train.systems`).

    Args:
        context: of the stage; ``embeddings`` of a stage ``document-embeddings`` are made here where they are needed
            and not given; without ``pseudo`` questions of a query generator the documents' own sentences are asked for.
        source: of the weights: a name, or a folder inside the data.
        stages: of training.
        steps: of each stage, in place of its epochs.
        batch_size: of all stages, in place of their own.
        learning_rate: likewise, of weights that were trained before.
        fresh_learning_rate: likewise, of the others.
        warmup_steps: likewise.
        docid_scheme: how documents are named.
        docid_options: of the scheme, beside the system's own.
        permuted_docids: the control in which every document bears another's docid.
        max_input_tokens: longer inputs are cut.
        num_beams: of the search.
        dropout: of the network; None is the source's own.
        prefix_head_layers: of NCI's head; 0 has none.
        docid_outputs_only: whether the decoder writes docid tokens alone.
        encoder_layers: of a ``warm:`` source, keep the lowest so many; None keeps all.
        decoder_layers: of a ``warm:`` source.
        frozen_layers: lowest layers of the encoder that keep their weights, and so do the embeddings; where all do, it
            reads each text once, and decoders learn many times as fast.
        pseudo_per_document: questions made of a document's sentences, where none are given.
        train_questions: the first so many training questions; 0 takes all.
        save_steps: between checkpoints.
        eval_steps: between measurements on dev questions; 0 measures none.
        dev_questions: how many are asked then.
    """
    needs = ["collection", "embeddings?", "pseudo?"]
    stage(name, version="1", seeded=True, isolated=True, needs=needs)(train)


def _changed(
    context: StageContext,
    stages: Sequence[TrainingStage],
    steps: Sequence[int],
    changes: Mapping[str, float | None],
) -> tuple[TrainingStage, ...]:
    if steps and len(steps) != len(stages):
        raise StageError(
            f"steps of {len(steps)} stages are given, and there are {len(stages)}",
            where=context.name,
            mend=f"Give one number for each of {', '.join(each.name for each in stages)}",
        )
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    lengths = steps or [each.steps for each in stages]
    return tuple(replace(each, steps=number, **given) for each, number in zip(stages, lengths, strict=True))


def _train(
    context: StageContext,
    system: GenerativeSystem,
    *,
    source: str,
    depths: Mapping[str, int | None],
    permuted_docids: bool,
    pseudo_per_document: int,
    train_questions: int,
    base: UniGenTraining,
    dev_questions: int,
) -> None:
    corpus = Corpus.open(context.input("collection") / "corpus")
    documents = list(corpus)
    triplets = read_questions(context.input("collection"), "train")
    triplets = triplets[:train_questions] if train_questions else triplets
    options: dict[str, Any] = {**depths, **({} if system.dropout is None else {"dropout": system.dropout})}
    built = build_unigen(
        documents,
        source,
        docids=DocidOptions(
            system.docid_scheme,
            permute_seed=context.seed if permuted_docids else None,
            options=system.docid_options,
        ),
        vectors=read_vectors(context, len(documents)),
        prefix_head_layers=system.prefix_head_layers,
        docid_outputs_only=system.docid_outputs_only,
        settings=UniGenSettings(num_beams=system.num_beams, max_input_tokens=system.max_input_tokens),
        corpus_fingerprint=corpus.fingerprint,
        extra_texts=[triplet.query.text for triplet in triplets],
        seed=context.seed,
        answers=False,
        **options,
    )
    pseudo = []
    if any(pairs.kind == "pseudo" for each in system.stages for pairs in each.pairs):
        given = "pseudo" in context.inputs
        pseudo = (
            read_pseudo(context.input("pseudo"))
            if given
            else pseudo_questions(corpus, pseudo_per_document, context.seed)
        )
    records = train_in_stages(
        built,
        system.stages,
        Material(documents, built.table, triplets, pseudo=pseudo, seed=context.seed),
        context.scratch / "training",
        base=base,
        dev=_dev_set(context, dev_questions) if base.eval_steps else None,
        progress=lambda name, step, of, last: context.progress(step, of, f"{name} {last}"),
    )
    built.save(context.folder / "unigen")
    (context.folder / "history.json").write_text(json.dumps(built.history))
    context.report(
        {
            "parameters": sum(parameter.numel() for parameter in built.model.parameters()),
            "train_seconds": sum(record.seconds for record in records),
            "train_steps": sum(record.steps for record in records),
            "collision_rate": built.table.collision_rate,
        }
    )


def _dev_set(context: StageContext, questions: int) -> DevSet:
    triplets = read_questions(context.input("collection"), "dev")
    triplets = sorted(triplets, key=lambda item: zlib.crc32(item.query.id.encode()))[:questions]
    return DevSet([triplet.query for triplet in triplets], triplets)


@stage("generative-run", version="1", seeded=True, isolated=True, needs=["collection", "model"])
def generative_run(context: StageContext, k: int = 10, dev: bool = False) -> None:
    """A trained generative retriever's run of the test questions, read as they are.

    Args:
        context: of the stage.
        k: documents of a question; no more are found than the search has beams.
        dev: also of the dev questions, for a fusion's weight.
    """
    system = UniGen.open(context.input("model") / "unigen")
    for split in ("dev", "test") if dev else ("test",):
        queries = [triplet.query for triplet in read_questions(context.input("collection"), split)]
        start = time.perf_counter()
        run = system.search(queries, k=k)
        write_outcome(context.folder, run, None, time.perf_counter() - start, split)


for _name in SYSTEMS:
    _register(_name)
