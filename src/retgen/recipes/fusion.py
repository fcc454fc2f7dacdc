"""The fusion of two runs, its weight chosen on dev questions."""

from __future__ import annotations

import numpy as np

from retgen.errors import UsageError
from retgen.evaluate import evaluate_run
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import read_outcome, write_outcome
from retgen.recipes.stages import stage
from retgen.types import FloatArray, Run

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))


def fuse(first: Run, second: Run, weight: float, k: int = 100) -> Run:
    """Each query's documents by ``(1 − weight) · z(first) + weight · z(second)``.

    z standardises a run's scores within a query; a document that a run lacks has that run's lowest score there. Ties
    keep the first run's order.

    Args:
        first: a run.
        second: a run of the same queries.
        weight: of the second, 0 to 1.
        k: most documents of a query.
    """
    if not 0 <= weight <= 1:
        raise UsageError(f"a fusion weight lies between 0 and 1, not at {weight}")
    ids: list[list[str]] = []
    scores: list[list[float]] = []
    for query_id in first.query_ids:
        one = dict(zip(first.doc_ids(query_id), _standard(first.scores(query_id)), strict=True))
        two = dict(zip(second.doc_ids(query_id), _standard(second.scores(query_id)), strict=True))
        union = list(dict.fromkeys([*one, *two]))
        low_one, low_two = min(one.values(), default=0.0), min(two.values(), default=0.0)
        values = [(1 - weight) * one.get(i, low_one) + weight * two.get(i, low_two) for i in union]
        order = sorted(range(len(union)), key=lambda item: -values[item])[:k]
        ids.append([union[i] for i in order])
        scores.append([values[i] for i in order])
    return Run(first.query_ids, ids, scores, fingerprint=first.fingerprint)


def _standard(scores: FloatArray) -> list[float]:
    if len(scores) == 0:
        return []
    spread = float(scores.std())
    return [float(value) for value in (scores - scores.mean()) / (spread if spread > 1e-9 else 1.0)]


@stage("fusion", version="1", seeded=True, needs=["collection", "first", "second"])
def fusion(context: StageContext, depth: int = 10, measure: str = "RR@10") -> None:
    """Two runs as one; the weight with the best dev value, the smallest of equals.

    Args:
        context: of the stage.
        depth: hits of each run that are fused.
        measure: of the choice.
    """
    triplets = read_questions(context.input("collection"), "dev")
    qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in triplets}
    runs = {}
    seconds = 0.0
    for split in ("dev", "test"):
        first, _, first_seconds = read_outcome(context.input("first"), split)
        second, _, second_seconds = read_outcome(context.input("second"), split)
        if first is None or second is None:
            raise UsageError("a fusion needs two runs", where=context.name)
        runs[split] = (first.top(depth), second.top(depth))
        seconds = first_seconds + second_seconds
    values = [evaluate_run(fuse(*runs["dev"], weight), qrels, [measure]).means[measure] for weight in WEIGHTS]
    best = WEIGHTS[int(np.argmax(values))]
    context.log(f"weight {best} ({measure} {max(values):.4f} on dev)")
    context.report({"weight": best})
    write_outcome(context.folder, fuse(*runs["test"], best), None, seconds)
