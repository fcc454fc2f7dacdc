"""What a page of results shows, gathered from the results and, where they are beside them, their stages' folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retgen.errors import RetgenError, UsageError
from retgen.evaluate.pairing import mean_over_seeds
from retgen.generative.history import HISTORY, read_history
from retgen.recipes.collections import read_questions
from retgen.recipes.curves import round_curves, stage_folders
from retgen.recipes.report import Report
from retgen.recipes.results import Results

Points = Mapping[float, float]
MOST_QUESTIONS = 3000
"""Questions whose values the page holds: more would make it slow to open."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's text and accepted answers, as far as they are known."""

    text: str = ""
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """One measure against steps or rounds.

    Args:
        title: what is drawn.
        x_label: of the positions.
        lines: name of each line (a seed) → position → value.
    """

    title: str
    x_label: str
    lines: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class Content:
    """Everything on the page.

    Args:
        report: the tables.
        labels: row → what is shown.
        values: measure → row → question id → mean over the row's seeds.
        questions: id → text and answers; only those that are known.
        pairs: of rows that the recipe compares: (row, the row it is held against).
        learning: charts of trainings.
        rounds: charts of rounds.
        commands: that made the results.
        lower_is_better: measures whose small values are the good ones.
        lacks_stages: whether no stage's folder lies beside the results, so that there can be no charts and no texts.
    """

    report: Report
    labels: Mapping[str, str]
    values: Mapping[str, Mapping[str, Mapping[str, float]]]
    questions: Mapping[str, Asked]
    pairs: tuple[tuple[str, str], ...]
    learning: tuple[Chart, ...]
    rounds: tuple[Chart, ...]
    commands: tuple[str, ...]
    lower_is_better: frozenset[str]
    lacks_stages: bool


def gather(results: Results, report: Report, folders: Sequence[str | Path]) -> Content:
    """The content of a page.

    Args:
        results: merged over the folders.
        report: made of them.
        folders: that ``retgen run`` wrote to.

    Raises:
        ArtefactError: a stage's history or round is torn.
    """
    values: dict[str, dict[str, dict[str, float]]] = {}
    for column in results.definition.columns:
        for row in report.rows:
            runs = results.of(row)
            if runs and all(column.key in run.report.per_question for run in runs):
                means = mean_over_seeds([run.report.per_question[column.key] for run in runs])
                values.setdefault(column.key, {})[row] = means
    pairs = [(row, other) for row, other in report.against.items() if row != other]
    pairs += [(row, other) for tests in report.contrasts.values() for row, other in tests]
    places = _stage_places(results, folders)
    commands = {str(made["command"]) for run in results.rows for made in run.made_by if made.get("command")}
    return Content(
        report=report,
        labels={name: row.label for name, row in report.rows.items()},
        values=values,
        questions=_questions(places, {key for rows in values.values() for means in rows.values() for key in means}),
        pairs=tuple(dict.fromkeys(pairs)),
        learning=_learning(places),
        rounds=_rounds(places),
        commands=tuple(sorted(commands)),
        lower_is_better=frozenset(column.key for column in results.definition.columns if column.best == "min"),
        lacks_stages=not places,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    stage: str
    seed: int | None
    folder: Path
    out: Path


def _stage_places(results: Results, folders: Sequence[str | Path]) -> list[_Place]:
    """Every finished stage of every result, once, in the recipe's order of rows."""
    found: dict[Path, _Place] = {}
    order = {row: number for number, row in enumerate(results.definition.rows)}
    for out in map(Path, folders):
        for result in sorted(results.rows, key=lambda result: (order.get(result.row, 0), result.seed or 0)):
            for stage in result.stages:
                for folder in stage_folders(out, stage, result):
                    seeded = folder.name.startswith(f"{stage}-seed")
                    found.setdefault(folder, _Place(stage, result.seed if seeded else None, folder, out))
    return list(found.values())


def _learning(places: Sequence[_Place]) -> tuple[Chart, ...]:
    """A chart per stage and measure, a line per seed; pre-training and fine-tuning apart, as each counts its steps."""
    lines: dict[tuple[str, float, str], dict[str, dict[float, float]]] = {}
    for place in places:
        if not (place.folder / HISTORY).is_file():
            continue
        for row in read_history(place.folder):
            for name, value in row.items():
                if (name == "loss" or name.startswith("eval_")) and math.isfinite(value) and "step" in row:
                    chart = lines.setdefault((place.stage, row.get("stage", 1), name.removeprefix("eval_")), {})
                    chart.setdefault(_seed(place), {})[row["step"]] = value
    charts = []
    for (stage, part, name), drawn in lines.items():
        where = f"{stage}, pre-training" if part == 0 else stage
        charts.append(Chart(f"{where}: {name}", "step", drawn))
    return tuple(charts)


def _rounds(places: Sequence[_Place]) -> tuple[Chart, ...]:
    charts: list[Chart] = []
    stages = dict.fromkeys((place.out, place.stage) for place in places if (place.folder / "round0.run").is_file())
    for out, stage in stages:
        for curve in round_curves(out, stage):
            positions, seeds = np.asarray(curve.positions).tolist(), np.asarray(curve.values).tolist()
            lines = {
                f"run {number}": {x: y for x, y in zip(positions, row, strict=True) if math.isfinite(y)}
                for number, row in enumerate(seeds, 1)
            }
            charts.append(Chart(f"{stage}: {curve.name}", "round", lines))
    return tuple(charts)


def _seed(place: _Place) -> str:
    return "all seeds" if place.seed is None else f"seed {place.seed}"


def _questions(places: Sequence[_Place], wanted: set[str]) -> dict[str, Asked]:
    """Texts of the questions, from the collections among the stages; what is no collection of ours is passed over."""
    found: dict[str, Asked] = {}
    for place in places:
        for split in ("test", "dev"):
            if wanted <= set(found) or not (place.folder / f"{split}.jsonl").is_file():
                continue
            try:
                triplets = read_questions(place.folder, split)
            except (KeyError, ValueError, TypeError, RetgenError):
                continue  # contexts and rounds have files of that name, too
            for triplet in triplets:
                if triplet.query.id in wanted:
                    found.setdefault(triplet.query.id, Asked(triplet.query.text, triplet.answers))
    return found


def main_measure(content: Content, measure: str | None) -> str | None:
    """The measure questions are compared by: the one asked for, else the first that has values per question.

    Raises:
        UsageError: there are no values per question of the one asked for.
    """
    if measure is None:
        return next(iter(content.values), None)
    if measure not in content.values:
        known = ", ".join(content.values) or "none"
        raise UsageError(
            f"there are no values per question of {measure!r}", where="--measure", mend=f"There are of: {known}"
        )
    return measure


def shown_questions(content: Content) -> list[str]:
    """The questions whose values the page holds: all, or the `MOST_QUESTIONS` on which the rows differ most."""
    spread: dict[str, float] = {}
    for rows in content.values.values():
        for question in {key for means in rows.values() for key in means}:
            found = [means[question] for means in rows.values() if question in means]
            spread[question] = max(spread.get(question, 0.0), max(found) - min(found))
    if len(spread) <= MOST_QUESTIONS:
        return list(spread)
    return sorted(spread, key=lambda question: -spread[question])[:MOST_QUESTIONS]
