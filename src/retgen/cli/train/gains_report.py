"""What a re-ranker's training command reports: the gains over BM25's order, as a table and as an object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retgen.evaluate import Table
    from retgen.train.cross_encoder import CrossEncoderTraining
    from retgen.train.improvement import Gain
    from retgen.train.questions import CollectionQuestions
    from retgen.train.rerank_collection import RerankingQuestions
    from retgen.train.resumable import TrainingRecord


def gains_table(asked: CollectionQuestions, gains: Mapping[str, Gain], top: int) -> Table:
    """BM25's order and the trained re-ranker's on the same held-out questions."""
    from retgen.evaluate import Row, Table

    kind = "pseudo questions" if asked.pseudo else "questions"
    count = max(gain.questions for gain in gains.values())
    marks = {"improved": "†", "worse": "‡"}
    notes = {
        mark: f"{word} than BM25's order: p < 0.05, paired randomisation test over questions, Holm-corrected over "
        "measures"
        for mark, word in (("†", "higher"), ("‡", "lower"))
        if any(marks.get(gain.verdict) == mark for gain in gains.values())
    }
    table = Table(list(gains), caption=f"{count} held-out {kind}, never trained on; BM25's top {top}", footnotes=notes)
    table.add_row(Row("BM25", {name: gain.before for name, gain in gains.items()}))
    table.add_row(
        Row(
            "cross-encoder",
            {name: gain.after for name, gain in gains.items()},
            marks={name: marks.get(gain.verdict, "") for name, gain in gains.items()},
        )
    )
    return table


def as_object(
    out: Path,
    source: str,
    options: CrossEncoderTraining,
    asked: CollectionQuestions,
    found: RerankingQuestions,
    record: TrainingRecord,
    gains: Mapping[str, Gain],
    seconds: float,
) -> dict[str, object]:
    """The object that ``--json`` prints."""
    from retgen.train.improvement import sentence

    return {
        "model": str(out),
        "source": source,
        "options": asdict(options),
        "pseudo": asked.pseudo,
        "candidates": asdict(found.statistics),
        "dev": len(found.dev.queries) if found.dev is not None else 0,
        "held_out": len(found.held_out.queries) if found.held_out is not None else 0,
        "steps": record.steps,
        "measures": {name: {**asdict(gain), "verdict": gain.verdict} for name, gain in gains.items()},
        "summary": sentence(gains, "BM25"),
        "seconds": round(seconds, 3),
    }
