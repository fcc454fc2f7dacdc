"""The learning curves that training stages left behind, over seeds (UniGen, Figure 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from retgen.errors import UsageError
from retgen.evaluate.plots import Curve

HISTORY = "history.json"
RETRIEVAL, ANSWERS = "MRR@10", "EM"


def curves(out: str | Path, stage: str) -> tuple[Curve, Curve]:
    """Retrieval and answer quality on dev questions against training steps, a value per seed.

    Args:
        out: the folder a recipe was run into.
        stage: name of a training stage that measured dev questions (``eval_steps`` above 0).

    Raises:
        UsageError: there is no such stage, or it measured nothing.
    """
    pattern = re.compile(rf"{re.escape(stage)}-seed\d+-[0-9a-f]+")
    found = [path for path in sorted(Path(out).glob("stages/*")) if pattern.fullmatch(path.name)]
    histories = [json.loads((path / HISTORY).read_text()) for path in found if (path / HISTORY).exists()]
    if not histories:
        raise UsageError(
            f"no finished training stage {stage!r}",
            where=out,
            mend="Run the recipe first, or name another with --stage",
        )
    seeds = {name: [_measured(history, f"eval_{name}") for history in histories] for name in (RETRIEVAL, ANSWERS)}
    if not all(any(rows) for rows in seeds.values()):
        raise UsageError(
            f"the stage {stage!r} measured no dev questions", where=out, mend="Give it eval_steps in the recipe"
        )
    return Curve.from_seeds(RETRIEVAL, seeds[RETRIEVAL]), Curve.from_seeds(ANSWERS, seeds[ANSWERS])


def _measured(history: list[Mapping[str, float]], name: str) -> dict[int, float]:
    # Stage 1 is fine-tuning: pre-training counts its own steps.
    return {int(row["step"]): row[name] for row in history if name in row and row.get("stage", 1) == 1}
