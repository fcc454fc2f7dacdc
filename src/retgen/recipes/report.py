"""From results to a table: means and deviations over seeds, tests against the baseline, intervals over questions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Literal

from retgen.errors import UsageError
from retgen.evaluate import Comparison, Interval, bootstrap_corpus, bootstrap_mean
from retgen.evaluate.pairing import mean_over_seeds, stacked
from retgen.evaluate.table import Table
from retgen.evaluate.table_parts import Column, Row, Value
from retgen.recipes.comparing import CORPUS_MEASURES, baselines, compared
from retgen.recipes.contrasts import Pair, contrast_table, contrasted
from retgen.recipes.results import Results, RowResult

Format = Literal["md", "latex", "csv", "html", "json"]

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
        comparisons: column → row → that row against its baseline; empty without a baseline.
        against: row → the row that it is tested against.
        sections: row → the section that it stands in.
        contrasts: column → pair of rows → the first against the second.
        headings: heading → the pairs that stand under it; the heading is empty where the recipe gives none.
    """

    table: Table
    rows: Mapping[str, MergedRow]
    comparisons: Mapping[str, Mapping[str, Comparison]]
    against: Mapping[str, str]
    sections: Mapping[str, str]
    contrasts: Mapping[str, Mapping[Pair, Comparison]]
    headings: Mapping[str, Sequence[Pair]] = field(default_factory=dict)

    def differences(self) -> Table:
        """Differences from the baselines with their intervals and corrected p-values, one line per row and column."""
        columns = ["measure", "difference", "low", "high", "p", "questions"]
        baseline = _baseline_label(self.rows, self.against) or "no baseline"
        table = Table(
            [Column(name, decimals=4 if name == "p" else 3, best=None) for name in columns],
            caption=f"Differences from {baseline}, with 95 % bootstrap intervals over questions; p after Holm",
        )
        # Where baselines are by section, the differences are too.
        sections = self.sections if len(set(self.against.values())) > 1 else {}
        for section in dict.fromkeys(sections.get(name, "") for name in self.rows):
            if section:
                table.add_section(section)
            for measure, rows in self.comparisons.items():
                for name, found in rows.items():
                    if sections.get(name, "") == section:
                        table.add_row(_difference(self.rows[name].label, measure, found))
        return table

    def render(self, form: Format) -> str:
        """The table as Markdown, LaTeX, CSV, HTML or JSON; the JSON also has seeds, intervals and tests."""
        return self.to_json() if form == "json" else _render(self.table, form)

    def render_differences(self, form: Format) -> str:
        """`differences`, and behind them the contrasts where there are any, in a format."""
        text = _render(self.differences(), form)
        if not self.contrasts:
            return text
        return f"{text}\n{_render(contrast_table(self.rows, self.contrasts, self.headings), form)}"

    def to_json(self) -> str:
        """The table's JSON (`Table.from_json` reads it), with seeds, intervals and tests."""
        content = json.loads(self.table.to_json())
        content["against"] = dict(self.against)
        content["rows"] = {name: asdict(row) for name, row in self.rows.items()}
        content["comparisons"] = {
            measure: {name: asdict(found) for name, found in rows.items()} for measure, rows in self.comparisons.items()
        }
        content["contrasts"] = [
            {"heading": heading, "measure": measure, "row": pair[0], "other": pair[1], **asdict(tests[pair])}
            for measure, tests in self.contrasts.items()
            for heading, pairs in self.headings.items()
            for pair in pairs
            if pair in tests
        ]
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
    against = baselines(definition, baseline)
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
    against = {name: row for name, row in against.items() if name in systems and row in systems}
    comparisons = compared(systems, against, columns, resamples)
    table = _table(results, merged, comparisons, against, level)
    sections = {name: definition.rows[name].section for name in merged}
    pairs = [pair for group in definition.contrasts.values() for pair in group]
    contrasts = contrasted(systems, pairs, columns, resamples)
    return Report(table, merged, comparisons, against, sections, contrasts, definition.contrasts)


def _difference(label: str, measure: str, found: Comparison) -> Row:
    values: dict[str, Value] = {
        "measure": measure,
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": found.p_adjusted,
        "questions": found.num_questions,
    }
    return Row(label, values)


def _baseline_label(rows: Mapping[str, MergedRow], against: Mapping[str, str]) -> str:
    """What the rows are tested against, in words; nothing where they are not tested."""
    labels = list(dict.fromkeys(rows[row].label for row in against.values()))
    if len(labels) == 1 and len(set(against.values())) > 1:
        return f"the section's {labels[0]}"
    return " or ".join(labels)


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


def _table(
    results: Results,
    merged: Mapping[str, MergedRow],
    comparisons: Mapping[str, Mapping[str, Comparison]],
    against: Mapping[str, str],
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
    if label := _baseline_label(merged, against):
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
