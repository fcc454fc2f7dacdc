"""``retgen eval``: a run, answers, or both, against what is known to be right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.judging import OnlyQueries, asked_among, say_left_out
from retgen.cli.running import counted, results, skipping, write_json
from retgen.errors import FormatError, RecordError, UsageError

_RETRIEVAL_DEFAULT = ("nDCG@10", "RR@10", "R@100")


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="A TREC run, as search --out writes it.", show_default=False)
    ] = None,
    qrels: Annotated[str | None, typer.Option(help="Judgements: TREC or BEIR.", metavar="FILE")] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--measure",
            help="In the ir_measures grammar (nDCG@10, RR@10, R@100, Success@20), or EM, F1, has_answer, BLEU-1, "
            "ROUGE-L for answers. May be given several times.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Predicted answers: a JSON object of id → text, or JSON lines of query_id and text.", metavar="FILE"
        ),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(
            help="Questions with accepted answers (and relevant documents): SQuAD, DPR, JSONL.", metavar="FILE"
        ),
    ] = None,
    queries: OnlyQueries = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines of the files out, and say which.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per measure on standard output.")
    ] = False,
) -> None:
    """Score a run against judgements, answers against accepted ones.

    Every judged query is in the average, whether the run has it or not; --queries names those that were asked.

    Examples:

      retgen eval run.trec --qrels qrels/test.tsv -m nDCG@10 -m RR@10

      retgen eval dev-run.trec --qrels qrels/train.tsv --queries dev.jsonl

      retgen eval run.trec --gold dev-v1.1.json -m R@1

      retgen eval --answers predictions.json --gold dev-v1.1.json -m EM -m F1
    """
    if run is None and answers is None:
        raise UsageError("there is nothing to score", mend="Give a RUN, or --answers FILE, or both")
    if run is not None and qrels is None and gold is None:
        raise UsageError("a run needs judgements", mend="Give --qrels FILE (or --gold FILE with relevant documents)")
    if answers is not None and gold is None:
        raise UsageError("answers need accepted answers to compare with", mend="Give --gold FILE")
    retrieval, answering = split_measures(measures or [])
    if retrieval and run is None:
        raise UsageError(f"the measure {retrieval[0]!r} needs a run", mend="Give the RUN before the options")
    if answering and answers is None:
        raise UsageError(f"the measure {answering[0]!r} needs answers", mend="Give --answers FILE")
    asked_all = not measures
    if run is not None and (retrieval or asked_all):
        _score_run(run, qrels, gold, queries, retrieval or list(_RETRIEVAL_DEFAULT), skip_bad, as_json)
    if answers is not None and gold is not None and (answering or asked_all):
        _score_answers(answers, gold, queries, answering or ["EM", "F1"], skip_bad, as_json)


def split_measures(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Retrieval measures and answer measures, in the order given."""
    from retgen.evaluate.answers import canonical_answer_measure

    retrieval: list[str] = []
    answering: list[str] = []
    for name in names:
        try:
            answering.append(canonical_answer_measure(name))
        except UsageError:
            retrieval.append(name)
    return retrieval, answering


def read_answers(path: Path) -> dict[str, str]:
    """Question id → predicted answer, from a JSON object (as SQuAD's scorer reads) or JSON lines.

    Raises:
        FormatError: the file cannot be read, or holds neither.
        RecordError: a line without ``query_id`` and ``text``.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"these answers cannot be read ({error})", where=path) from error
    try:
        whole = json.loads(content)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "query_id" not in whole:
        if not all(isinstance(text, str) for text in whole.values()):
            raise FormatError("an answer in this file is not a text", where=path, mend="Give an object of id → text")
        return {str(name): text for name, text in whole.items()}
    found: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            query_id, text = row["query_id"], row["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                "a line of answers is an object with query_id and text", path=path, line=number, mend="Mend the line"
            ) from error
        if not isinstance(query_id, str) or not isinstance(text, str) or query_id in found:
            raise RecordError(
                "query_id and text must be texts, and each query_id stands once", path=path, line=number, mend="Mend it"
            )
        found[query_id] = text
    return found


def _score_run(
    run: Path,
    qrels: str | None,
    gold: str | None,
    queries: str | None,
    measures: Sequence[str],
    skip_bad: bool,
    as_json: bool,
) -> None:
    from retgen.evaluate import evaluate_run
    from retgen.formats import read_qrels, read_run, read_triplets

    judged: Mapping[str, Mapping[str, int]]
    with skipping(skip_bad) as skipped:
        if qrels is not None:
            judged = read_qrels(qrels, skipped=skipped)
        else:
            triplets = read_triplets(str(gold), skipped=skipped)
            judged = {item.query.id: dict.fromkeys(item.doc_ids, 1) for item in triplets}
        judged = asked_among(judged, queries, skipped)
        ranked = read_run(run, skipped=skipped)
    scored = evaluate_run(ranked, judged, measures)
    _print(scored.means, scored.num_queries, as_json)
    say_left_out(without_hits=scored.without_hits, unjudged=scored.unjudged)


def _score_answers(
    answers: Path, gold: str, queries: str | None, measures: Sequence[str], skip_bad: bool, as_json: bool
) -> None:
    from retgen.evaluate import evaluate_answers
    from retgen.formats import read_triplets

    with skipping(skip_bad) as skipped:
        known = {item.query.id: item.answers for item in read_triplets(gold, skipped=skipped)}
        accepted = asked_among(known, queries, skipped)
    scored = evaluate_answers(read_answers(answers), accepted, measures)
    _print(scored.means, scored.num_questions, as_json)
    if scored.missing or scored.unjudged:
        typer.echo(
            f"questions without an answer, which count 0: {scored.missing}; "
            f"answers to other questions, left out: {scored.unjudged}",
            err=True,
        )


def _print(means: Mapping[str, float], queries: int, as_json: bool) -> None:
    for name, value in means.items():
        if as_json:
            write_json({"measure": name, "value": value, "queries": queries})
        else:
            results().print(f"{name:<12} {value:.4f}   ({counted(queries, 'query', 'queries')})", markup=False)
