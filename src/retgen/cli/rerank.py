"""``retgen rerank``: a run in, the same documents in a better order out; and why, for one query."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.corpus_or_index import documents_of, is_index
from retgen.cli.moves import print_moves
from retgen.cli.rerankers import check_models, open_reranker
from retgen.cli.running import counted, messages, progress_bars, skipping, write_json
from retgen.cli.scored_runs import generator_weight as weight_of
from retgen.errors import MismatchError, UnknownDocumentError, UsageError

if TYPE_CHECKING:
    from retgen.corpus import Corpus
    from retgen.types import Query, Run


def rerank(
    run: Annotated[
        Path,
        typer.Argument(help="A TREC run, as search --out writes it; a .parquet beside it is read.", show_default=False),
    ],
    corpus: Annotated[
        str,
        typer.Option(
            help="The documents it ranks: an index folder, or documents in any form that `retgen index` reads.",
            metavar="CORPUS",
            show_default=False,
        ),
    ],
    queries: Annotated[
        str,
        typer.Option(
            help="Its queries: BEIR queries.jsonl, a .tsv of id and text, a SQuAD .json.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            help="cross-encoder (p(passage | query)), query-likelihood (p(query | passage)), or jpr (both together).",
            show_default=False,
        ),
    ],
    cross_encoder: Annotated[
        str | None, typer.Option(help="A cross-encoder: folder or hub id.", metavar="MODEL")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="A query generator: folder or hub id.", metavar="MODEL")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="How the models' inputs are written: jpr, jpr-beir, upr, upr-causal, authors-code; by default jpr, "
            "or upr-causal of a decoder-only generator.",
            show_default=False,
        ),
    ] = None,
    generator_weight: Annotated[
        str | None,
        typer.Option(
            help="With jpr: λ, the generator's share, 0 to 1 [0.5]; or a file of `retgen tune --out`, which finds the "
            "best.",
            metavar="NUMBER|FILE",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", help="Keep the best so many; all by default, which `retgen tune` needs.", min=1)
    ] = None,
    state_cache: Annotated[
        Path | None,
        typer.Option(help="Keep the generator's passage states here: the next run is faster.", metavar="DIR"),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="In a generator's place: a server that echoes log-probabilities, as vLLM.", metavar="URL"),
    ] = None,
    endpoint_model: Annotated[str | None, typer.Option(help="The model's name there.", metavar="NAME")] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="With --endpoint: keeps answers, to go on later.", envvar="RETGEN_LEDGER")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the new run here, with a .parquet of all component scores beside it."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            help="Show for this query what moved and why; without --out nothing else is re-ranked.", metavar="QUERY_ID"
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="With --explain: draw it, as .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines of RUN, --queries and --corpus out, and say which.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: one object per passage with --explain, else one about the run.")
    ] = False,
) -> None:
    """Order the documents of a run anew. Every query and every candidate stays, unless -k cuts the list.

    A run with a .parquet beside it must be of this corpus. Queries of the file that the run does not have are left
    alone; a query of the run that the file lacks is an error.

    Examples:

      retgen search my-index --queries queries.jsonl -k 100 --out bm25.trec

      retgen rerank bm25.trec --corpus my-index --queries queries.jsonl --with cross-encoder
        --cross-encoder my-cross-encoder --out ce.trec

      retgen rerank bm25.trec --corpus my-index --queries queries.jsonl --with jpr
        --cross-encoder my-cross-encoder --generator my-generator --generator-weight 0.5 --out jpr.trec

      retgen rerank bm25.trec --corpus my-index --queries queries.jsonl --with jpr
        --cross-encoder my-cross-encoder --generator my-generator --explain q42 --picture q42.png

    Then: retgen tune jpr.trec --qrels dev.tsv for the best weight, and retgen eval jpr.trec --qrels test.tsv.
    """
    share = None if generator_weight is None else weight_of(generator_weight)
    check_models(with_, cross_encoder, generator, share, state_cache, (endpoint, endpoint_model))
    if out is None and explain is None:
        raise UsageError("there is nowhere to write the new run", mend="Give --out FILE, or --explain QUERY_ID")
    if picture is not None and explain is None:
        raise UsageError("--picture draws an explanation", mend="Give --explain QUERY_ID too")
    if picture is not None:
        from retgen.evaluate.plots import picture_format

        picture_format(picture)

    from retgen.formats import read_queries, read_run, write_run

    with skipping(skip_bad) as skipped:
        found = read_run(run, skipped=skipped)
        texts = {query.id: query for query in read_queries(queries, skipped=skipped)}
        documents = open_documents(corpus, skipped)
        if explain is not None and explain not in found:
            raise UsageError(f"the run has no query {explain!r}", where=run, mend="Name one of the run's queries")
    asked = queries_of_run(found, run, texts, queries)
    check_candidates(found, run, documents, corpus)
    if explain is not None and out is None:
        asked = [query for query in asked if query.id == explain]
    with progress_bars() as step:
        step("Open the models")(0, 0)
        reranker = open_reranker(
            with_,
            cross_encoder=cross_encoder,
            generator=generator,
            generator_weight=0.5 if share is None else share,
            preset=preset,
            state_cache=state_cache,
            device=device,
            endpoint=(endpoint, endpoint_model),
            ledger=ledger,
        )
        start = time.perf_counter()
        made = reranker.rerank(asked, found, documents, progress=step("Score query–passage pairs"))
        seconds = time.perf_counter() - start
        if explain is not None:
            from retgen.rerank.moves import explain_moves

            moves = explain_moves(texts[explain], found, made, documents, reranker, k=k or 10, progress=step("Explain"))
    if out is not None:
        kept = made if k is None else made.top(k)
        write_run(out, kept, tag=with_)
        pairs = sum(len(found.doc_ids(query.id)) for query in asked)
        rate = pairs / max(seconds, 1e-9)
        if as_json and explain is None:
            write_json(
                {
                    "out": str(out),
                    "with": with_,
                    "queries": len(asked),
                    "without_candidates": sum(not found.doc_ids(query.id) for query in asked),
                    "pairs": pairs,
                    "seconds": round(seconds, 3),
                    "pairs_per_second": round(rate, 1),
                    "components": list(made.component_names),
                    "weights": dict(getattr(reranker, "weights", {})),
                }
            )
        messages().print(
            f"{out}: {counted(len(asked), 'query', 'queries')}, {counted(pairs, 'pair', 'pairs')} in {seconds:.1f} s "
            f"({rate:.1f} a second)",
            markup=False,
            highlight=False,
        )
    if explain is not None:
        if picture is not None:
            from retgen.evaluate import save_figure
            from retgen.rerank.pictures import moves_picture

            save_figure(moves_picture(moves), picture)
            messages().print(f"Written: {picture}", markup=False, highlight=False)
        print_moves(moves, as_json=as_json)


def open_documents(path: str, skipped: object) -> Corpus:
    """The corpus of an index, or a temporary one of other documents; candidates are looked up in it by id."""
    if is_index(path):
        from retgen.index import Index

        return Index.open(path).corpus
    from retgen.corpus import Corpus

    return Corpus.from_documents(documents_of(path, skipped))  # type: ignore[arg-type]


def queries_of_run(run: Run, run_file: Path, texts: dict[str, Query], queries_file: str) -> list[Query]:
    """The run's queries with their texts, in its order; queries of the file that it lacks are mentioned.

    Raises:
        UsageError: the file lacks a query of the run.
    """
    lacking = [query_id for query_id in run.query_ids if query_id not in texts]
    if lacking:
        raise UsageError(
            f"{len(lacking)} of the run's {len(run)} queries are not in {queries_file}, the first {lacking[0]!r}",
            where=run_file,
            mend="Give the file that was searched with; no query is dropped",
        )
    spare = len(texts) - len(run)
    if spare:
        messages().print(
            f"{queries_file}: {counted(spare, 'query', 'queries')} of {len(texts)} that the run does not have, left "
            "alone",
            markup=False,
            highlight=False,
        )
    return [texts[query_id] for query_id in run.query_ids]


def check_candidates(run: Run, run_file: Path, documents: Corpus, corpus: str) -> None:
    """Refuse a run of another corpus before a model is opened.

    Raises:
        MismatchError: its sidecar names another corpus.
        UnknownDocumentError: it holds a document that the corpus does not.
    """
    if documents.chunked and run.fingerprint is not None and run.fingerprint == documents.source_fingerprint:
        raise MismatchError(
            "this run holds whole documents, and the index holds them in chunks",
            where=run_file,
            mend="Give the documents themselves as --corpus",
        )
    if run.fingerprint is not None and run.fingerprint != documents.fingerprint:
        raise MismatchError(
            f"this run was made from another corpus than {corpus}",
            where=run_file,
            mend="Give the corpus or index that was searched",
        )
    for query_id in run.query_ids:
        for doc_id in run.doc_ids(query_id):
            if doc_id not in documents:
                raise UnknownDocumentError(doc_id, where=f"{run_file} against {corpus}")
