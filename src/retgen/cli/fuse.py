"""``retgen fuse``: scores that runs carry, weighed into one order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.options import AsJson
from retgen.cli.running import counted, messages, skipping, write_json
from retgen.cli.scored_runs import listed, one_run, read_weights
from retgen.errors import UsageError


def fuse(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="One run whose .parquet holds the components, as rerank --out writes it; or two and more runs, whose "
            "scores are the components.",
            show_default=False,
        ),
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="A file of `retgen tune --out`, or weights themselves: bm25=0.3,cross_encoder=0.7.",
            metavar="FILE|A=W,B=W",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the run here, with all components beside it.")],
    components: Annotated[
        str | None, typer.Option(help="Names for several runs [their files'].", metavar="A,B[,C]", show_default=False)
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Of each score within a query: log-softmax, z (standardised) or raw. [what the weights were tuned on, "
            "else z]",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Keep the best so many; all by default.", min=1)] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines of the runs out, and say which.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Order the candidates of runs by the weighted sum of their scores. No model is asked.

    Weights are best chosen on dev questions by `retgen tune`, and used here on others.

    Examples:

      retgen tune dev-jpr.trec --qrels dev.tsv --components bm25,cross_encoder,generator --out weights.json

      retgen fuse test-jpr.trec --weights weights.json --out fused.trec

      retgen fuse bm25.trec dense.trec --weights bm25=0.4,dense=0.6 --out fused.trec

    Then: retgen eval fused.trec --qrels test.tsv
    """
    from retgen.formats import read_run, write_run
    from retgen.rerank.fusion import combine

    found = read_weights(weights)
    chosen = (scale or found.scale or "z").replace("-", "_")
    with skipping(skip_bad) as skipped:
        read = [read_run(path, skipped=skipped) for path in runs]
    run, names = one_run(runs, read, listed(components) or (list(found.weights) if len(read) == 1 else None))
    unknown = [name for name in found.weights if name not in names]
    if unknown:
        raise UsageError(
            f"there is a weight of {unknown[0]!r}, and the components are {', '.join(names)}",
            where="--weights",
            mend="Name the runs' scores with --components as the weights name them",
        )
    made = combine(run, found.weights, scale=chosen, k=k)
    write_run(out, made, tag="fused")
    if as_json:
        write_json({"out": str(out), "queries": len(made), "weights": dict(found.weights), "scale": chosen})
    said = " ".join(f"{name}={weight:g}" for name, weight in found.weights.items())
    messages().print(
        f"{out}: {counted(len(made), 'query', 'queries')}, {said}, scale {chosen}", markup=False, highlight=False
    )
