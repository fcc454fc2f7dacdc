"""``retgen mcp``: an index as tools for language models, over standard input and output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.running import messages
from retgen.cli.search import language_of
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.index import Index
    from retgen.integrations.finding import Finder

_READ = 3
_BACKGROUND = 10


def mcp(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    with_: Annotated[
        str | None,
        typer.Option("--with", help="The retriever: bm25; dense or doct5query where the index has it. [bm25]"),
    ] = None,
    cross_encoder: Annotated[
        str | None, typer.Option(help="Order what was found, and rerank's texts, by this model.", metavar="MODEL")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="And by this one; with --cross-encoder it is JPR.", metavar="MODEL")
    ] = None,
    generator_weight: Annotated[float, typer.Option(help="λ of JPR, the generator's share, 0 to 1.")] = 0.5,
    reader: Annotated[
        Path | None, typer.Option(help="Answer by this reader (FiD, RAG, closed book).", metavar="MODEL")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Or a model that retgen train unigen made: it finds and answers.", metavar="MODEL"),
    ] = None,
    passage_characters: Annotated[
        int, typer.Option(help="Longer passages are cut there, so that a context holds them.", min=1)
    ] = 2000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Serve an index to language models by the Model Context Protocol: the tools search, ask and rerank.

    A client starts this command and talks to it over standard input and output; it ends when the client goes. Without
    models passages are found by BM25, answers are the best extracted span, and rerank orders by words in common.

    Examples:

      retgen mcp my-index

      retgen mcp my-index --cross-encoder my-ce --generator my-generator --reader my-fid

      retgen mcp my-index --model my-model

    A client's configuration names the command retgen and its arguments mcp, /path/to/my-index.
    """
    if model is not None and (
        with_ is not None or reader is not None or cross_encoder is not None or generator is not None
    ):
        raise UsageError(
            "a model of retgen train unigen finds and answers by itself",
            where="--model",
            mend="Leave out --with, --reader, --cross-encoder and --generator",
        )
    from retgen.index import Index
    from retgen.integrations.mcp import build_server
    from retgen.integrations.ordering import Orderer, WordsInCommon, open_reranker
    from retgen.models.quiet import no_progress_bars

    with no_progress_bars():
        opened = Index.open(index)
        rerankers: Sequence[object] = ()
        if cross_encoder is not None or generator is not None:
            rerankers = [
                open_reranker(
                    cross_encoder=cross_encoder, generator=generator, generator_weight=generator_weight, device=device
                )
            ]
        if model is not None:
            searcher = asker = unigen_finder(opened, model, device)
        else:
            searcher, asker = index_finders(opened, with_, rerankers, reader, device)
        orderer = Orderer(rerankers[0] if rerankers else WordsInCommon(language_of(opened)))
        server = build_server(
            searcher, asker, orderer, name=f"retgen {opened.path.name}", passage_characters=passage_characters
        )
    messages().print(
        f"{opened!r}: search, ask and rerank over standard input and output", markup=False, highlight=False
    )
    server.run("stdio")


def index_finders(
    index: Index, retriever: str | None, rerankers: Sequence[object], reader: Path | None, device: str
) -> tuple[Finder, Finder]:
    """What searches and what asks: the same retriever and re-rankers; the second with an answerer behind them."""
    from retgen.answer import BestSpan
    from retgen.integrations.finding import Finder

    answerer: object = BestSpan(_READ, background=_BACKGROUND)
    read = _READ
    if reader is not None:
        from retgen.answer.folder import open_reader

        opened = open_reader(reader, device=device)
        answerer, read = opened, opened.passages
    searcher = Finder(index, retriever=retriever, then=rerankers)
    asker = Finder(
        index,
        k=read,
        retriever=retriever,
        then=[*rerankers, answerer],
        candidates=None if rerankers else max(_BACKGROUND, read),
    )
    return searcher, asker


def unigen_finder(index: Index, model: Path, device: str) -> Finder:
    """A trained UniGen over its index: it finds and answers at once."""
    from retgen.generative.over_index import open_unigen
    from retgen.integrations.finding import Finder
    from retgen.pipeline import Pipeline

    return Finder(Pipeline([open_unigen(model, index, device=device)], index), k=_READ)
