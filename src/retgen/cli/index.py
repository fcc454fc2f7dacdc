"""``retgen index``: documents in, an index out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.running import progress_bars, results, skipping, write_json
from retgen.errors import UsageError


def index(
    corpus: Annotated[
        str,
        typer.Argument(
            help="A folder of .txt/.md/.html/.pdf/.docx, a BEIR folder, .jsonl, a .tsv of DPR passages, a SQuAD .json, "
            "or ir_datasets:<id>.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The index folder to make.", show_default=False)],
    dense: Annotated[
        str | None,
        typer.Option(
            help="Also embed every document with this bi-encoder: minilm (the packaged one), a folder or a hub id.",
            metavar="MODEL",
        ),
    ] = None,
    dense_index: Annotated[
        str,
        typer.Option(
            help="How the embeddings are searched: flat (exact), hnsw (a graph: fast, larger), ivf-pq "
            "(short codes: small, less exact); with settings such as hnsw:depth=256 or ivf-pq:probes=32,code_bytes=48.",
            metavar="KIND",
        ),
    ] = "flat",
    pseudo: Annotated[
        str | None,
        typer.Option(
            "--pseudo-queries",
            help="Also count these questions with the documents' own words, as DocT5Query does: what retgen "
            "pseudo-queries wrote about the same documents. Search it with --with doct5query.",
            metavar="FILE",
        ),
    ] = None,
    fields: Annotated[
        str, typer.Option(help="What BM25 counts: flat (title and text as one), or weights such as title=1,text=1.")
    ] = "flat",
    language: Annotated[str, typer.Option(help="Stemmer and stop words: english, german, …, or none.")] = "english",
    chunk_words: Annotated[
        int | None, typer.Option(help="Cut documents into chunks of so many words; results name the documents.", min=1)
    ] = None,
    chunk_overlap: Annotated[int, typer.Option(help="Words a chunk shares with the one before.", min=0)] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad records out, and say which.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index that stands there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Make an index from documents. Nothing is trained; a failure leaves what stood there before.

    Examples:

      retgen index docs/ --out my-index

      retgen index docs/ --out my-index --chunk-words 100 --chunk-overlap 20 --dense minilm

      retgen index corpus.jsonl --out my-index --fields title=2,text=1 --language german

      retgen index corpus.jsonl --out my-index --dense my-bi-encoder --dense-index hnsw

      retgen pseudo-queries corpus.jsonl --generator my-generator --out asked.jsonl
      retgen index corpus.jsonl --out my-index --pseudo-queries asked.jsonl
    """
    if chunk_overlap and chunk_words is None:
        raise UsageError("--chunk-overlap needs --chunk-words")
    if dense is None and dense_index != "flat":
        raise UsageError("--dense-index needs --dense")
    weights = parse_fields(fields)

    from retgen.formats import read_corpus, read_triplets
    from retgen.index import Index

    start = time.perf_counter()
    with skipping(skip_bad) as skipped, progress_bars() as step:
        made = Index.build(
            read_corpus(corpus, skipped=skipped),
            out,
            fields=weights,
            language=language,
            chunk_words=chunk_words,
            chunk_overlap=chunk_overlap,
            dense=dense,
            dense_index=dense_index,
            pseudo_queries=None if pseudo is None else read_triplets(pseudo, skipped=skipped),
            made_by={"command": "retgen index", "source": corpus},
            overwrite=overwrite,
            progress=step,
        )
    seconds = time.perf_counter() - start
    unit = "chunks" if made.corpus.chunked else "documents"
    if as_json:
        write_json(
            {
                "index": str(out),
                unit: len(made),
                "retrievers": list(made.retrievers),
                "fingerprint": made.fingerprint,
                "skipped": skipped.count if skipped is not None else 0,
                "seconds": round(seconds, 3),
            }
        )
        return
    results().print(
        f"{out}: {len(made)} {unit[:-1] if len(made) == 1 else unit}, {' and '.join(made.retrievers)}, "
        f"in {seconds:.1f} s",
        markup=False,
    )
    typer.echo(f'Ask it: retgen ask {out} "your question"', err=True)


def parse_fields(value: str) -> str | Mapping[str, float]:
    """``flat``, or field → weight from ``title=2,text=1``; a field without a weight has 1.

    Raises:
        UsageError: a weight that is no number, or a field without a name.
    """
    if value.strip() == "flat":
        return "flat"
    weights: dict[str, float] = {}
    for part in value.split(","):
        name, _, weight = part.partition("=")
        try:
            weights[name.strip()] = float(weight) if weight.strip() else 1.0
        except ValueError:
            raise UsageError(
                f"the weight of a field is a number, got {weight!r}",
                where="--fields",
                mend="For example title=2,text=1",
            ) from None
        if not name.strip():
            raise UsageError("a field has no name", where="--fields", mend="For example title=2,text=1")
    return weights
