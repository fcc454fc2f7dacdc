"""From results to a table: means and deviations over seeds, tests against the baseline, intervals over questions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Literal

from retgen.errors import MismatchError, UsageError
from retgen.evaluate import Comparison, Interval, bleu1, bootstrap_corpus, bootstrap_mean, compare, compare_corpus
from retgen.evaluate.bootstrap import CorpusMeasure
from retgen.evaluate.pairing import mean_over_seeds, stacked
from retgen.evaluate.table import Table
from retgen.evaluate.table_parts import Column, Row, Value
from retgen.recipes.results import Results, RowResult
from retgen.recipes.yaml_source import unknown_name

Format = Literal["md", "latex", "csv", "html", "json"]

CORPUS_MEASURES: Mapping[str, CorpusMeasure] = {"BLEU-1": bleu1}
"""Measures that have no value per question: from summed statistics to the value."""

BETTER, WORSE = "†", "‡"
_SYMBOLS = "*§¶‖"


@dataclass(frozen=True, slots=True)
class MergedRow:
    """One system over its seeds.

    Args:
        name: the row's name.
        label: what is shown.
        seeds: that were run; empty where the row does not depend on them.
        values: column → mean over the seeds; a text where all seeds agree on it.
        std: column → sample standard deviation (n − 1) over the seeds, from two on.
        intervals: column → bootstrap interval over questions of the seeds' mean.
    """

    name: str
    label: str
    seeds: tuple[int, ...]
    values: Mapping[str, Value]
    std: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Report:
    """A recipe's table and what stands behind it.

    Args:
        table: rows and columns as the recipe asks, published numbers below ours.
        rows: name → system over its seeds, in the table's order.
        comparisons: column → row → that row against the baseline; empty without a baseline.
        baseline: the row the others were tested against, or None.
    """

    table: Table
    rows: Mapping[str, MergedRow]
    comparisons: Mapping[str, Mapping[str, Comparison]]
    baseline: str | None

    def differences(self) -> Table:
        """Differences from the baseline with their intervals and corrected p-values, one line per row and column."""
        labels = {name: row.label for name, row in self.rows.items()}
        against = labels.get(self.baseline or "", "no baseline")
        columns = ["measure", "difference", "low", "high", "p", "questions"]
        table = Table(
            [Column(name, decimals=4 if name == "p" else 3, best=None) for name in columns],
            caption=f"Differences from {against}, with 95 % bootstrap intervals over questions; p after Holm",
        )
        for measure, rows in self.comparisons.items():
            for name, found in rows.items():
                table.add_row(
                    Row(
                        labels[name],
                        {
                            "measure": measure,
                            "difference": found.difference,
                            "low": found.interval.low,
                            "high": found.interval.high,
                            "p": found.p_adjusted,
                            "questions": found.num_questions,
                        },
                    )
                )
        return table

    def render(self, form: Format) -> str:
        """The table as Markdown, LaTeX, CSV, HTML or JSON; the JSON also has seeds, intervals and tests."""
        return self.to_json() if form == "json" else _render(self.table, form)

    def render_differences(self, form: Format) -> str:
        """`differences` in a format."""
        return _render(self.differences(), form)

    def to_json(self) -> str:
        """The table's JSON (`Table.from_json` reads it), with seeds, intervals and tests."""
        content = json.loads(self.table.to_json())
        content["baseline"] = self.baseline
        content["rows"] = {name: asdict(row) for name, row in self.rows.items()}
        content["comparisons"] = {
            measure: {name: asdict(found) for name, found in rows.items()} for measure, rows in self.comparisons.items()
        }
        return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def make_report(
    results: Results, *, baseline: str | None = None, level: float = 0.05, resamples: int = 10_000
) -> Report:
    """The table of a recipe's results.

    Args:
        results: of one run or several, merged.
        baseline: row to test the others against; the recipe's by default.
        level: of significance, after Holm's correction over the rows of a column.
        resamples: of intervals and randomisation tests.

    Returns:
        Means, standard deviations over seeds, paired tests over questions on the seeds' mean (t-test; randomisation for
        corpus-level measures), bootstrap intervals. Rows with fewer seeds than others say so.

    Raises:
        UsageError: no results, or an unknown baseline.
        MismatchError: two rows were scored on different questions.
    """
    definition = results.definition
    if baseline is not None and baseline not in definition.rows:
        raise unknown_name("row", baseline, definition.rows, where="--baseline")
    systems = {name: found for name in definition.rows if (found := results.of(name))}
    if not systems:
        raise UsageError(
            f"there are no results of the recipe {definition.name!r} yet", mend=f"Run it: retgen run {definition.name}"
        )
    columns = [column.key for column in definition.columns]
    merged = {
        name: _merged(name, definition.rows[name].label or name, runs, columns, resamples)
        for name, runs in systems.items()
    }
    against = baseline or definition.baseline
    comparisons: dict[str, dict[str, Comparison]] = {}
    if against in systems:
        for key in columns:
            if tested := _compared(systems, against, key, resamples):
                comparisons[key] = tested
    table = _table(results, merged, comparisons, against if against in systems else None, level)
    return Report(table, merged, comparisons, against if against in systems else None)


def _render(table: Table, form: Format) -> str:
    writers = {
        "md": table.to_markdown,
        "latex": table.to_latex,
        "csv": table.to_csv,
        "html": table.to_html,
        "json": table.to_json,
    }
    return writers[form]()


def _merged(name: str, label: str, runs: list[RowResult], columns: list[str], resamples: int) -> MergedRow:
    values: dict[str, Value] = {}
    std: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for key in columns:
        found = [run.values.get(key) for run in runs]
        numbers = [value for value in found if isinstance(value, int | float)]
        if len(numbers) < len(found):
            values[key] = found[0] if len(set(found)) == 1 else None
            continue
        values[key] = numbers[0] if len(numbers) == 1 else fmean(numbers)
        if len(numbers) > 1:
            std[key] = stdev(numbers)
        if all(key in run.report.per_question for run in runs):
            means = mean_over_seeds([run.report.per_question[key] for run in runs])
            intervals[key] = bootstrap_mean(list(means.values()), resamples=resamples)
        elif key in CORPUS_MEASURES and all(key in run.report.statistics for run in runs):
            rows = [run.report.statistics[key] for run in runs]
            intervals[key] = bootstrap_corpus(stacked(list(rows[0]), rows), CORPUS_MEASURES[key], resamples=resamples)
    seeds = tuple(run.seed for run in runs if run.seed is not None)
    return MergedRow(name, label, seeds, values, std, intervals)


def _compared(systems: Mapping[str, list[RowResult]], baseline: str, key: str, resamples: int) -> dict[str, Comparison]:
    values = {
        name: [run.report.per_question[key] for run in runs]
        for name, runs in systems.items()
        if all(key in run.report.per_question for run in runs)
    }
    statistics = {
        name: [run.report.statistics[key] for run in runs]
        for name, runs in systems.items()
        if key in CORPUS_MEASURES and all(key in run.report.statistics for run in runs)
    }
    if baseline in values and len(values) > 1:
        _check_questions(values, baseline, key)
        return compare(values, baseline, resamples=resamples)
    if baseline in statistics and len(statistics) > 1:
        _check_questions(statistics, baseline, key)
        # A row that does not depend on the seed stands for every one of them; the test swaps run by run.
        most = max(map(len, statistics.values()))
        repeated = {name: runs * (most if len(runs) == 1 else 1) for name, runs in statistics.items()}
        equal = {name: runs for name, runs in repeated.items() if len(runs) == len(repeated[baseline])}
        if len(equal) > 1:
            return compare_corpus(equal, baseline, CORPUS_MEASURES[key], resamples=resamples)
    return {}


def _check_questions(runs: Mapping[str, Sequence[Mapping[str, object]]], baseline: str, key: str) -> None:
    expected = set(runs[baseline][0])
    for name, seeds in runs.items():
        for values in seeds:
            if set(values) != expected:
                raise MismatchError(
                    f"the rows {name!r} and {baseline!r} were scored on different questions "
                    f"({len(values)} and {len(expected)})",
                    where=key,
                    mend="Score all rows on the same questions",
                )


def _table(
    results: Results,
    merged: Mapping[str, MergedRow],
    comparisons: Mapping[str, Mapping[str, Comparison]],
    baseline: str | None,
    level: float,
) -> Table:
    definition = results.definition
    table = Table(
        [
            Column(column.key, column.header, column.decimals, column.scale, column.best)
            for column in definition.columns
        ],
        caption=_caption(results),
        label=f"tab:{definition.name}",
    )
    section = ""
    footnotes: dict[str, str] = {}
    symbols = (symbol * times for times in range(1, 100) for symbol in _SYMBOLS)
    for name, spec in definition.rows.items():
        if name not in merged and spec.needs:
            continue
        if spec.section and spec.section != section:
            table.add_section(spec.section)
        section = spec.section or section
        if name in merged:
            marks = _marks(name, comparisons, level)
            if spec.note:
                marks[""] = next(symbols)
                footnotes[marks[""]] = spec.note
            row = merged[name]
            table.add_row(Row(_label(row, results), row.values, row.std, marks, ranked=spec.ranked))
        if spec.published:
            label = f"{spec.label or name} (published)"
            table.add_row(Row(label, dict(spec.published), ranked=False))
    used = {mark for line in table.lines if isinstance(line, Row) for mark in line.marks.values()}
    if baseline is not None:
        label = definition.rows[baseline].label or baseline
        test = f"than {label}: p < {level:g}, paired over questions on the seeds' mean, Holm-corrected"
        footnotes |= {mark: f"{word} {test}" for mark, word in ((BETTER, "higher"), (WORSE, "lower")) if mark in used}
    if definition.published_source and any(spec.published for spec in definition.rows.values()):
        footnotes["Published:"] = definition.published_source
    if definition.notes:
        footnotes["Notes:"] = " ".join(definition.notes)
    table.footnotes = footnotes
    return table


def _marks(name: str, comparisons: Mapping[str, Mapping[str, Comparison]], level: float) -> dict[str, str]:
    return {
        key: BETTER if rows[name].difference > 0 else WORSE
        for key, rows in comparisons.items()
        if name in rows and rows[name].is_significant(level)
    }


def _label(row: MergedRow, results: Results) -> str:
    seeds = results.seeds
    lacks = 0 < len(row.seeds) < len(seeds)
    return f"{row.label} ({len(row.seeds)} of {len(seeds)} seeds)" if lacks else row.label


def _caption(results: Results) -> str:
    definition, seeds = results.definition, results.seeds
    questions = {result.questions for result in results.rows if result.questions}
    parts = [definition.description.strip().rstrip(".") or definition.name, f"scale {definition.scale}"]
    if len(questions) == 1:
        parts.append(f"{questions.pop()} questions")
    if len(seeds) > 1:
        parts.append(f"mean ± std over seeds {', '.join(map(str, seeds))}")
    elif seeds:
        parts.append(f"seed {seeds[0]}")
    return "; ".join(parts)
