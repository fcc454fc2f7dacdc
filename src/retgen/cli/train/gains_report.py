"""What training commands report: the gains over what needs no training, as a table and as an object."""

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


def gains_table(
    asked: CollectionQuestions, gains: Mapping[str, Gain], before: str, after: str, *, than: str, also: str = ""
) -> Table:
    """What there was and what was trained, on the same held-out questions.

    Args:
        asked: the questions.
        gains: measure → what was found.
        before: the first row's label.
        after: the second row's.
        than: what the marks compare with, e.g. ``"BM25's order"``.
        also: what else the caption says.
    """
    from retgen.evaluate import Row, Table

    kind = "pseudo questions" if asked.pseudo else "questions"
    counts = sorted({gain.questions for gain in gains.values()})
    marks = {"improved": "†", "worse": "‡"}
    notes = {
        mark: f"{word} than {than}: p < 0.05, paired randomisation test over questions, Holm-corrected over measures"
        for mark, word in (("†", "higher"), ("‡", "lower"))
        if any(marks.get(gain.verdict) == mark for gain in gains.values())
    }
    caption = f"{' and '.join(map(str, counts))} held-out {kind}, never trained on{also}"
    table = Table(list(gains), caption=caption, footnotes=notes)
    table.add_row(Row(before, {name: gain.before for name, gain in gains.items()}))
    told = {name: marks.get(gain.verdict, "") for name, gain in gains.items()}
    table.add_row(Row(after, {name: gain.after for name, gain in gains.items()}, marks=told))
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
