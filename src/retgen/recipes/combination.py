"""A stage that weighs several scores of the same candidates, the weights chosen on dev questions."""

from __future__ import annotations

import json
from typing import Literal

from retgen.errors import UsageError
from retgen.recipes.collections import Split
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import write_outcome
from retgen.recipes.ranking import candidate_qrels, outcome_of, report_ranking
from retgen.recipes.stages import stage
from retgen.rerank.fusion import combine, join_runs
from retgen.rerank.tuning import tune_weights
from retgen.types import Run

_GIVEN = ("collection", "candidates")


@stage("combination", version="1")
def combination(
    context: StageContext,
    components: list[str],
    scale: Literal["log_softmax", "z", "raw"] = "log_softmax",
    step: float = 0.05,
    measure: str = "RR@10",
    weights: list[float] = [],  # noqa: B006  (read, never changed)
) -> None:
    """The order by a weighted sum of components, e.g. JPR: the cross-encoder's and the generator's, as log-softmaxes.

    Args:
        context: of the stage. It needs ``candidates`` with the judgements, and any number of outcomes whose runs carry
            the components.
        components: names, e.g. ``cross_encoder`` and ``generator``.
        scale: of each component within a question.
        step: between the weights tried.
        measure: of the choice, on dev.
        weights: one for each component; empty chooses them on dev.
    """
    runs, seconds = _side_by_side(context, "test", components)
    if weights:
        if len(weights) != len(components):
            raise UsageError(f"{len(components)} components need as many weights, not {len(weights)}")
        chosen = dict(zip(components, weights, strict=True))
    else:
        dev, _ = _side_by_side(context, "dev", components)
        tuning = tune_weights(dev, candidate_qrels(context, "dev"), components, measure, step=step, scale=scale)
        chosen = tuning.best
        context.log(f"weights {chosen} ({measure} {tuning.value:.4f} on dev)")
        (context.folder / "tuning.json").write_text(json.dumps(tuning.to_json(), indent=1), encoding="utf-8")
        write_outcome(context.folder, combine(dev, chosen, scale=scale), None, 0.0, "dev")
    context.report({"weights": ", ".join(f"{weight:g}" for weight in chosen.values())})
    write_outcome(context.folder, combine(runs, chosen, scale=scale), None, seconds)
    report_ranking(context)


def _side_by_side(context: StageContext, split: Split, components: list[str]) -> tuple[Run, float]:
    """One run that carries all components, and the seconds of all outcomes it is from."""
    found: dict[str, Run] = {}
    seconds = 0.0
    for role in context.inputs:
        if role in _GIVEN:
            continue
        run, took = outcome_of(context.input(role), split)
        seconds += took
        for name in components:
            if name in run.component_names:
                ids = run.query_ids
                scores = [run.scores(query_id, name) for query_id in ids]
                found.setdefault(
                    name, Run(ids, [run.doc_ids(query_id) for query_id in ids], scores, fingerprint=run.fingerprint)
                )
    lacking = [name for name in components if name not in found]
    if lacking:
        raise UsageError(f"no outcome carries the component {lacking[0]!r}", where=context.name)
    return join_runs({name: found[name] for name in components}), seconds
