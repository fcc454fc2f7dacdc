"""Stages that re-rank candidates with a model, and that average a system over collections."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.models.sources import WARM
from retgen.recipes.collections import SPLITS
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import write_outcome
from retgen.recipes.ranking import MEASURES, candidate_queries, candidate_run, report_ranking
from retgen.recipes.stages import stage
from retgen.recipes.work import read_report
from retgen.rerank.candidates import CandidateReranker

if TYPE_CHECKING:
    from torch import nn

Component = Literal["cross_encoder", "generator"]
FOLDERS: dict[Component, str] = {"cross_encoder": "cross-encoder", "generator": "query-generator"}
"""Where a stage that trains a model keeps it."""


@stage("reranked", version="1", seeded=True, isolated=True, needs=["collection", "candidates", "model?"])
def reranked(
    context: StageContext,
    component: Component,
    model: str = "",
    preset: str = "jpr",
    depth: int = 100,
    max_length: int = 0,
    quantization: str = "",
    measured: Literal["test", "dev"] = "test",
) -> None:
    """The first stage's best passages by a cross-encoder or a query generator; every score rides along.

    Args:
        context: of the stage; its ``model`` is a stage that trained one.
        component: which of the two.
        model: a folder inside the data (declare its files under ``data``), or a hub id, where no stage trained one.
        preset: of lengths and templates.
        depth: passages of a question.
        max_length: tokens of a pair (cross-encoder) or of a passage (generator); 0 is the preset's.
        quantization: ``int8`` or ``int4``, for large language models where the hardware can.
        measured: ``dev`` reports what dev questions say, and leaves test questions alone: to choose by.
    """
    if ("model" in context.inputs) == bool(model):
        raise UsageError("a re-ranking needs one model: of a stage, or by name", where=context.name)
    place: str | Path = (
        context.input("model") / FOLDERS[component] if "model" in context.inputs else named_model(context, model)
    )
    reranker = open_reranker(component, place, preset, max_length, quantization, states=context.cache / "states")
    corpus = Corpus.open(context.input("collection") / "corpus")
    for split in SPLITS[1:] if measured == "test" else SPLITS[1:2]:
        queries = candidate_queries(context, split)
        run = candidate_run(context, split).top(depth)
        start = time.perf_counter()
        found = reranker.rerank(queries, run, corpus, progress=context.progress)
        write_outcome(context.folder, found, None, time.perf_counter() - start, split)
    report_ranking(context, split=measured)


def open_reranker(
    component: Component,
    place: str | Path,
    preset: str,
    max_length: int = 0,
    quantization: str = "",
    *,
    states: Path | None = None,
) -> CandidateReranker:
    """A re-ranker from a saved model.

    Args:
        component: which of the two.
        place: the model's folder, or a hub id.
        preset: of lengths and templates.
        max_length: tokens of a pair or of a passage; 0 is the preset's.
        quantization: of a decoder-only generator.
        states: keeps the passage states of models whose encoder was frozen, for all that share it.
    """
    if component == "cross_encoder":
        from retgen.rerank.cross_encoder import PRESETS, CrossEncoder

        pairs = preset if preset in PRESETS else "jpr"
        cross_encoder = CrossEncoder.from_pretrained(place, preset=pairs, max_length=max_length or None)
        if states is not None:
            keep_states(cross_encoder.model, states)
        return cross_encoder
    from retgen.models.query_generator import QueryGenerator
    from retgen.rerank.query_likelihood import QueryLikelihood

    likelihood = QueryLikelihood.from_pretrained(
        place, preset, quantization=quantization or None, max_passage_tokens=max_length or None
    )
    generator = likelihood.generator
    if states is None or not isinstance(generator, QueryGenerator):
        return likelihood
    if not getattr(generator.model.config, "frozen_encoder", False):
        return likelihood
    return QueryLikelihood(generator, state_cache=states / generator.encoder_fingerprint()[:16])


def keep_states(model: nn.Module, states: Path) -> None:
    """Let a cross-encoder that joins late, its lower layers frozen, share their states; any other model is left alone.

    Args:
        model: on its device, in its number type.
        states: a folder, in which every encoder has its own.
    """
    from retgen.models.late_join import LateJoinForSequenceClassification
    from retgen.rerank.state_cache import StateCache

    if isinstance(model, LateJoinForSequenceClassification) and model.config.frozen_below:
        fingerprint = model.lower_fingerprint()
        model.memory.store = StateCache(states / fingerprint[:16], fingerprint)


def named_model(context: StageContext, model: str) -> str | Path:
    """A model by name: a folder inside the data (declare its files under ``data``), or whatever transformers takes.

    Behind ``warm:`` likewise.
    """
    if model.startswith(WARM):
        return f"{WARM}{named_model(context, model.removeprefix(WARM))}"
    inside = context.data / model if context.data is not None else None
    return inside if inside is not None and inside.is_dir() else model


@stage("mean-ranking", version="1")
def mean_ranking(context: StageContext) -> None:
    """A system's mean over collections: of the columns that each of the stages it needs has reported."""
    reports = [read_report(folder).values for folder in context.inputs.values()]
    if not reports:
        raise UsageError("a mean needs at least one stage", where=context.name)
    means = {}
    for name in MEASURES:
        values = [report[name] for report in reports]
        means[name] = fmean(float(value) for value in values if value is not None)
    context.report(means)
