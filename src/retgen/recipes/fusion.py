"""The fusion of two runs as a stage, its weight chosen on dev questions. How is `retgen.rerank.fusion`'s business."""

from __future__ import annotations

import numpy as np

from retgen.errors import UsageError
from retgen.evaluate import evaluate_run
from retgen.recipes.collections import read_questions
from retgen.recipes.context import StageContext
from retgen.recipes.measuring import read_outcome, write_outcome
from retgen.recipes.stages import stage
from retgen.rerank.fusion import fuse

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))


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
