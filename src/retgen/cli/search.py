"""``retgen search``: one question, or a file of them, in; ranked documents out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.docid_search import DocidSearch, MaxExpansions, Rule, Strategy, certificate_told
from retgen.cli.passages import (
    best_sentence,
    first_passages,
    indented,
    marked,
    matching_words,
    snippet,
    title_of,
)
from retgen.cli.running import counted, messages, results, skipping, write_json
from retgen.errors import RetgenError, UsageError

if TYPE_CHECKING:
    from retgen.index import Index
    from retgen.lexical import Analyzer
    from retgen.types import Document, DocumentFilter, Explanation, Hit, Query, Run

_TERMS_SHOWN = 8
UNIGEN = "unigen"


def search(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    query: Annotated[str | None, typer.Argument(help="The question.", show_default=False)] = None,
    queries: Annotated[
        str | None, typer.Option(help="Or a file of them: BEIR queries.jsonl, a .tsv of id and text, a SQuAD .json.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", help="Documents per query [10 shown, 100 to a file].", min=1)] = None,
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            help="The retriever: bm25; dense or doct5query where the index has it; or unigen with --model.",
        ),
    ] = "bm25",
    model: Annotated[Path | None, typer.Option(help="With --with unigen: a trained model.", metavar="MODEL")] = None,
    device: Annotated[str, typer.Option(help="With --with unigen: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write a TREC run here, with a .parquet beside it.")] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="Keep documents with this metadata value.", metavar="KEY=VALUE")
    ] = None,
    strategy: Strategy = None,
    rule: Rule = None,
    max_expansions: MaxExpansions = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what each word of the query gives.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave bad queries out, and say which.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per hit on standard output.")] = False,
) -> None:
    """Find the documents that fit a question. In a chunked index a document stands where its best chunk does.

    Examples:

      retgen search my-index "how do glaciers move?" -k 5 --explain

      retgen search my-index --queries queries.jsonl -k 100 --out run.trec

      retgen search my-index "exports" --filter year=1999 --json

      retgen search my-index --queries queries.jsonl --with dense --out run.trec

      retgen search my-index --queries queries.jsonl --with unigen --model my-model --out run.trec

      retgen search my-index "exports" --with unigen --model my-model --strategy exact --filter year=1999
    """
    if (with_ == UNIGEN) != (model is not None):
        raise UsageError("--with unigen and --model go together", mend="Give both, or neither")
    if model is not None and explain:
        raise UsageError("UniGen has no explanation", where="--explain", mend="Use --with bm25 for that")
    docid_search = DocidSearch(strategy, rule, max_expansions)
    docid_search.check_model(model)
    if (query is None) == (queries is None):
        raise UsageError("give a question, or a file of them with --queries", mend="One of the two, not both")

    from retgen.formats import read_queries, write_run
    from retgen.index import Index
    from retgen.types import Query

    depth = k or (100 if out is not None else 10)
    keep = parse_filters(filters or [])
    opened = Index.open(index)
    with skipping(skip_bad) as skipped:
        asked = [Query("q1", query)] if query is not None else list(read_queries(str(queries), skipped=skipped))
    if not asked:
        raise RetgenError("there are no queries to search for", where=queries, mend="Check the file")
    if model is not None:
        from retgen.cli.ask_unigen import open_model

        wide = min(len(opened), 4 * depth) if opened.corpus.chunked else depth
        system = open_model(model, opened, device, wide, docid_search, keep)
        passages = system.search(asked, k=wide)
    else:
        passages = opened.search_passages(asked, depth, retriever=with_, filter=keep)
    run = opened.corpus.aggregate(passages).top(depth)
    if out is not None:
        write_run(out, run, tag=with_)
        found = f"{counted(len(run), 'query', 'queries')}, up to {counted(depth, 'document', 'documents')} each"
        messages().print(f"{out}: {found}", markup=False, highlight=False)
    if as_json or out is None:
        _show(opened, asked, run, passages, with_ if explain else None, as_json)


def parse_filters(conditions: Sequence[str]) -> DocumentFilter | None:
    """A metadata filter from ``key=value`` texts; all must hold. None where there is no condition.

    Raises:
        UsageError: a text without ``=``.
    """
    if not conditions:
        return None
    from retgen.index import metadata_filter

    wanted: dict[str, str] = {}
    for condition in conditions:
        name, found, value = condition.partition("=")
        if not found or not name:
            raise UsageError(
                f"a filter is KEY=VALUE, got {condition!r}", where="--filter", mend="For example --filter year=1999"
            )
        wanted[name] = value
    return metadata_filter(wanted)


def _show(index: Index, queries: Sequence[Query], run: Run, passages: Run, explain: str | None, as_json: bool) -> None:
    from retgen.generative.docid_run import certificate_of
    from retgen.lexical import Analyzer
    from retgen.pipeline import Explainer

    analyse = Analyzer(language_of(index))
    explainer = index.retriever(explain) if explain is not None else None
    if explainer is not None and not isinstance(explainer, Explainer):
        raise UsageError(f"the retriever {explain!r} has no explanation to give", mend="Use --with bm25")
    for query in queries:
        if not as_json and len(queries) > 1:
            results().print(f"\n[{query.id}] {query.text}", style="bold", markup=False)
        if not as_json and not run[query.id]:
            results().print("No document fits this question.", markup=False)
        best = first_passages(index, passages, query.id)
        certificate = certificate_of(run[query.id][0].components) if run[query.id] else None
        for hit in run[query.id]:
            document = index.corpus[best[hit.doc_id]]
            explanation = explainer.explain(query, document) if explainer is not None else None
            if as_json:
                told = _as_json(query, hit, document, explanation, analyse)
                write_json(told if certificate is None else {**told, "certificate": certificate})
            else:
                _print_hit(query, hit, document, explanation, analyse)
        if certificate is not None and not as_json:
            results().print(certificate_told(certificate), style="dim", markup=False)


def language_of(index: Index) -> str:
    """The language of the index' BM25; words are marked by its stems."""
    from retgen.lexical import BM25

    bm25 = index.retriever("bm25")
    return bm25.settings.language if isinstance(bm25, BM25) else "none"


def _as_json(
    query: Query, hit: Hit, document: Document, explanation: Explanation | None, analyse: Analyzer
) -> dict[str, object]:
    marks = matching_words(document.text, query.text, analyse)
    shown, _ = snippet(document.text, best_sentence(document.text, marks), marks)
    value: dict[str, object] = {
        "query_id": query.id,
        "query": query.text,
        "rank": hit.rank,
        "doc_id": hit.doc_id,
        "score": hit.score,
        "title": title_of(document),
        "snippet": shown,
        "metadata": dict(document.metadata),
    }
    if document.id != hit.doc_id:
        value["passage_id"] = document.id
    if explanation is not None:
        value["components"] = dict(explanation.components)
        value["terms"] = [{"term": term, "score": score} for term, score in explanation.tokens]
    return value


def _print_hit(query: Query, hit: Hit, document: Document, explanation: Explanation | None, analyse: Analyzer) -> None:
    console = results()
    marks = matching_words(document.text, query.text, analyse)
    shown, places = snippet(document.text, best_sentence(document.text, marks), marks)
    console.print(f"{hit.rank:>3}  {hit.score:8.4f}  {title_of(document)}  ({document.id})", markup=False)
    console.print(indented(marked(shown, places)))
    if explanation is not None:
        terms = sorted(explanation.tokens, key=lambda pair: -pair[1])[:_TERMS_SHOWN]
        console.print("     " + "  ".join(f"{term} {score:.3f}" for term, score in terms), style="dim", markup=False)
