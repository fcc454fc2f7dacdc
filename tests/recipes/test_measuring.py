"""What a row's columns are made of: short answers by EM and F1, sentences by BLEU-1 and ROUGE-L."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retgen.evaluate import bleu1
from retgen.recipes import StageContext
from retgen.recipes.collections import write_questions
from retgen.recipes.context import StageReport
from retgen.recipes.measuring import measure, write_outcome
from retgen.recipes.stages import stage_kind
from retgen.types import Answer, Query, Run, Triplet


def _measured(place: Path, **params: Any) -> StageReport:
    collection, outcome = place / "collection", place / "outcome"
    collection.mkdir()
    outcome.mkdir()
    gold = {"q1": ("It is a grey metal.",), "q2": ("The Rhine", "Rhine")}
    write_questions(collection, "test", [Triplet(Query(i, f"{i}?"), texts, ("d1",)) for i, texts in gold.items()])
    answers = [Answer("q1", "a metal"), Answer("q2", "the Rhine")]
    write_outcome(outcome, Run.from_dict({"q1": {"d1": 1.0}, "q2": {"d2": 1.0, "d1": 0.5}}), answers, 1.0)
    inputs = {"collection": collection, "outcome": outcome}
    context = StageContext("measured", place, place, place, inputs, None, (), lambda event: None, None)
    measure(context, **params)
    return context.reported


def test_short_answers(tmp_path: Path) -> None:
    report = _measured(tmp_path)
    assert report.values["EM"] == 0.5
    assert report.values["MRR@10"] == 0.75
    assert "BLEU-1" not in report.values
    assert report.statistics == {}


def test_sentences(tmp_path: Path) -> None:
    report = _measured(tmp_path, free_form=True)
    assert "EM" not in report.values
    # Of the whole set, from the questions' shares, which tests and intervals draw from.
    shares = report.statistics["BLEU-1"]
    assert set(shares) == {"q1", "q2"}
    assert report.values["BLEU-1"] == pytest.approx(float(bleu1(np.sum(list(shares.values()), axis=0))))
    assert 0 < float(report.values["BLEU-1"] or 0) < 1
    assert report.per_question["ROUGE-L"]["q2"] == pytest.approx(1.0)
    assert report.values["ROUGE-L"] == pytest.approx(sum(report.per_question["ROUGE-L"].values()) / 2)


def test_rows_measured_before_keep_their_keys() -> None:
    kind = stage_kind("measure")
    assert set(kind.keyed(kind.check_params({}).model_dump(mode="json"))) == {"group", "name", "questions"}
