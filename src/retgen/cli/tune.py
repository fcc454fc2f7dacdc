"""``retgen tune``: the weights with which scores are best combined, chosen on judged questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.judging import OnlyQueries, asked_among, say_left_out
from retgen.cli.options import AsJson
from retgen.cli.running import counted, messages, results, skipping, write_json
from retgen.cli.scored_runs import listed, one_run
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.rerank.tuning import Tuning

_POINTS_SHOWN = 10


def tune(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="One run whose .parquet holds the components, as rerank --out writes it; or two and more runs, whose "
            "scores are the components.",
            show_default=False,
        ),
    ],
    qrels: Annotated[
        str, typer.Option(help="Judgements of dev questions: TREC or BEIR.", metavar="FILE", show_default=False)
    ],
    measure: Annotated[str, typer.Option("-m", "--measure", help="In the ir_measures grammar.")] = "RR@10",
    components: Annotated[
        str | None,
        typer.Option(
            help="What to weigh: names in the one run (cross_encoder,generator), or names for the runs (their files').",
            metavar="A,B[,C]",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Of each score within a query: log-softmax (JPR; the default for one run and two components), z "
            "(standardised; the default otherwise), or raw.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[float, typer.Option(help="Between neighbouring weights; it divides 1.")] = 0.05,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write weights, interval and curve here as JSON.", metavar="FILE")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the curve of two components: .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    queries: OnlyQueries = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines of the files out, and say which.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find the weights that combine scores best. No model is asked: a run already carries the scores.

    All judged questions are in the average, as in `retgen eval`, or those of --queries alone. Choose on dev questions
    and report test questions: the best value on the questions it was chosen on is a little too good.

    Examples:

      retgen rerank bm25.trec --corpus my-index --queries dev.jsonl --with jpr
        --cross-encoder my-cross-encoder --generator my-generator --out jpr.trec

      retgen tune jpr.trec --qrels dev.tsv -m RR@10 --picture curve.png

      retgen tune jpr.trec --qrels dev.tsv --components bm25,cross_encoder,generator --out weights.json

      retgen tune bm25.trec dense.trec --qrels dev.tsv -m nDCG@10

    Then: retgen fuse test.trec --weights weights.json --out fused.trec; with JPR's two parts also
      retgen rerank … --with jpr --generator-weight weights.json
    """
    from retgen.formats import read_qrels, read_run
    from retgen.rerank.tuning import evenly, tune_weights
    from retgen.rerank.tuning import tune as tune_two

    if picture is not None:
        from retgen.evaluate.plots import picture_format

        picture_format(picture)

    with skipping(skip_bad) as skipped:
        judged = asked_among(read_qrels(qrels, skipped=skipped), queries, skipped)
        read = [read_run(path, skipped=skipped) for path in runs]
    run, chosen = one_run(runs, read, listed(components))
    if picture is not None and len(chosen) != 2:
        raise UsageError(f"a curve is drawn of two components, not of {len(chosen)}", where="--picture")
    scaled = (scale or ("log-softmax" if len(read) == 1 and len(chosen) == 2 else "z")).replace("-", "_")
    if len(chosen) == 2:
        tuning = tune_two(run, judged, measure, chosen[0], chosen[1], evenly(step), scale=scaled)
    else:
        tuning = tune_weights(run, judged, chosen, measure, step=step, scale=scaled)
    if out is not None:
        from retgen.store import atomic_file

        with atomic_file(out) as draft:
            draft.write_text(json.dumps(tuning.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        messages().print(f"Written: {out}", markup=False, highlight=False)
    if picture is not None:
        from retgen.evaluate import save_figure
        from retgen.rerank.pictures import tuning_curve

        save_figure(tuning_curve(tuning), picture)
        messages().print(f"Written: {picture}", markup=False, highlight=False)
    found = {query_id for query_id in run.query_ids if run.doc_ids(query_id)}
    say_left_out(
        without_hits=len(set(tuning.question_ids) - found),
        unjudged=len(set(run.query_ids) - set(tuning.question_ids)),
    )
    if as_json:
        write_json(tuning.to_json())
        return
    _print(tuning)


def _print(tuning: Tuning) -> None:
    from rich.table import Table
    from rich.text import Text

    console = results()
    rows = list(range(len(tuning.points)))
    if len(tuning.components) > 2:
        rows = sorted(rows, key=lambda row: (-tuning.values[row], row != tuning.chosen))[:_POINTS_SHOWN]
        console.print(f"The best {len(rows)} of {len(tuning.points)} points:", style="dim", markup=False)
    else:
        rows.sort(key=lambda row: tuning.points[row, -1])
    low, high = float(min(tuning.values)), float(max(tuning.values))
    table = Table(box=None, pad_edge=False)
    for name in tuning.components:
        table.add_column(Text(name), justify="right")
    table.add_column(tuning.measure, justify="right")
    table.add_column("")
    for row in rows:
        value = float(tuning.values[row])
        bar = "█" * round(24 * (value - low) / (high - low)) if high > low else ""
        mark = "  ← best" if row == tuning.chosen else ""
        weights = [f"{weight:g}" for weight in tuning.points[row].round(9)]
        table.add_row(*weights, f"{value:.4f}", Text(f"{bar}{mark}"), style="bold" if mark else "")
    console.print(table)
    best = " ".join(f"{name}={weight:g}" for name, weight in _rounded(tuning.best).items())
    interval = tuning.interval
    console.print(
        f"\nbest: {best}   {tuning.measure} {tuning.value:.4f} "
        f"[{interval.low:.4f}, {interval.high:.4f}]   ({counted(len(tuning.question_ids), 'query', 'queries')})",
        markup=False,
    )
    for name, gain in tuning.gains.items():
        console.print(
            f"over {name} alone ({tuning.alone[name]:.4f}): {gain.estimate:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
            markup=False,
        )
    console.print(f"{interval.confidence:.0%} intervals by bootstrap over questions.", style="dim", markup=False)


def _rounded(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: round(weight, 9) for name, weight in weights.items()}
