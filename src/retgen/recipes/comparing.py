"""Which row is tested against which, and the tests: paired over questions, on the seeds' mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retgen.errors import MismatchError
from retgen.evaluate import Comparison, bleu1, compare, compare_corpus
from retgen.evaluate.bootstrap import CorpusMeasure
from retgen.recipes.results import Definition, RowResult
from retgen.recipes.yaml_source import unknown_name

CORPUS_MEASURES: Mapping[str, CorpusMeasure] = {"BLEU-1": bleu1}
"""Measures that have no value per question: from summed statistics to the value."""


def baselines(definition: Definition, wanted: str | None = None) -> dict[str, str]:
    """Row → the row that it is tested against; rows that are tested against none are left out.

    Args:
        definition: of the table.
        wanted: a row to test against instead; where baselines are by section, only its own section is tested.

    Raises:
        UsageError: there is no such row.
    """
    by_section = isinstance(definition.baseline, Mapping)
    if wanted is not None and wanted not in definition.rows:
        raise unknown_name("row", wanted, definition.rows, where="--baseline")
    found = {}
    for name, spec in definition.rows.items():
        baseline = definition.baseline
        if isinstance(baseline, Mapping):
            baseline = baseline.get(spec.section)
        if wanted is not None:
            baseline = wanted if not by_section or spec.section == definition.rows[wanted].section else None
        if baseline is not None:
            found[name] = baseline
    return found


def compared(
    systems: Mapping[str, list[RowResult]], against: Mapping[str, str], columns: Sequence[str], resamples: int
) -> dict[str, dict[str, Comparison]]:
    """Column → row → that row against its baseline. Holm's correction is over the rows of one column and baseline.

    Raises:
        MismatchError: a row and its baseline were scored on different questions.
    """
    comparisons: dict[str, dict[str, Comparison]] = {}
    for baseline in dict.fromkeys(against.values()):
        if baseline not in systems:
            continue
        rows = {name: runs for name, runs in systems.items() if against.get(name) == baseline or name == baseline}
        for key in columns:
            if tested := _compared(rows, baseline, key, resamples):
                comparisons.setdefault(key, {}).update(tested)
    return comparisons


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
