"""``retgen ask``: a question in; the best passages and the best extracted span out, or a trained model's answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli import connect_options as options
from retgen.cli.connect_writers import ChatOptions, asking_writer
from retgen.cli.docid_search import DocidSearch, MaxExpansions, Rule, Strategy
from retgen.cli.passages import (
    best_sentence,
    indented,
    marked,
    matching_words,
    snippet,
    title_of,
)
from retgen.cli.running import results, write_json
from retgen.cli.search import language_of, parse_filters
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.answer import PassageSpan
    from retgen.index import Index
    from retgen.text import Span
    from retgen.types import Answer, Query, Run

_BACKGROUND = 10
_CONTEXT_STYLE = "bold green"


def ask(
    index: Annotated[Path, typer.Argument(help="An index folder.", show_default=False)],
    question: Annotated[str, typer.Argument(help="What you want to know.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="Passages to read and to show.", min=1)] = 3,
    with_: Annotated[
        str, typer.Option("--with", help="The retriever: bm25; dense or doct5query where the index has it.")
    ] = "bm25",
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="Keep documents with this metadata value.", metavar="KEY=VALUE")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model that retgen train unigen made: it finds and answers.", metavar="MODEL")
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="With --model: so many times more, each with what the last found and said.", min=0)
    ] = 0,
    device: Annotated[str, typer.Option(help="With --model: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    strategy: Strategy = None,
    rule: Rule = None,
    max_expansions: MaxExpansions = None,
    writer: Annotated[
        str | None,
        typer.Option(
            help="With a --model trained on a language model's connectors: chat (an endpoint) or local, which writes "
            "this question's.",
            rich_help_panel=options.PANEL,
        ),
    ] = None,
    writer_model: options.Model = None,
    endpoint: options.EndpointUrl = None,
    key_variable: options.KeyVariable = options.KEY_VARIABLE,
    ledger: options.LedgerFile = options.LEDGER,
    prompts: options.Prompts = None,
    max_tokens: options.MaxTokens = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Answer a question from the documents: the best passages, and the likeliest span in them. Needs no training.

    The span is found by form and words alone: take it as a pointer into its passage, not as a verdict. With --model a
    trained UniGen answers from its context, and names passages alongside, each with whether it holds the answer. What
    --filter leaves out is neither found nor quoted in that context.

    Examples:

      retgen ask my-index "who discovered oxygen?"

      retgen ask my-index "when was the bridge built?" -k 5 --json

      retgen ask my-index "when was the bridge built?" --model my-model --rounds 2

      retgen ask my-index "what did Acme sell?" --model my-model --filter tenant=acme --strategy exact

      retgen ask my-index "who discovered oxygen?" --model my-model --rounds 2 --writer chat
        --endpoint http://localhost:8000/v1 --writer-model Qwen/Qwen3-8B
    """
    if not question.strip():
        raise UsageError("the question is empty", where="QUESTION")
    _check_model(model, rounds, with_)
    docid_search = DocidSearch(strategy, rule, max_expansions)
    docid_search.check_model(model)
    keep = parse_filters(filters or [])
    chat = ChatOptions(endpoint=endpoint, key_variable=key_variable)
    written = asking_writer(writer, writer_model, ledger, prompts, max_tokens, device, chat, model)

    from retgen.answer import BestSpan
    from retgen.index import Index
    from retgen.types import Query

    opened = Index.open(index)
    if model is not None:
        from retgen.cli.ask_unigen import ask_unigen

        ask_unigen(
            opened,
            question,
            model,
            k=k,
            rounds=rounds,
            device=device,
            docid_search=docid_search,
            keep=keep,
            as_json=as_json,
            writer=written,
        )
        return
    query = Query("q1", question)
    passages = opened.search_passages([query], max(k, _BACKGROUND), retriever=with_, filter=keep)
    reader = BestSpan(k, background=_BACKGROUND)
    run = passages.top(max(k, _BACKGROUND))
    answer = reader.answer([query], run, opened.corpus)[0]
    spans = {span.doc_id: span for span in reader.spans(query, run, opened.corpus)}
    shown = _passages(opened, query, run.top(k), spans)
    if as_json:
        write_json(_as_json(question, answer, opened, shown))
    else:
        _print(answer, opened, shown)


def _check_model(model: Path | None, rounds: int, with_: str) -> None:
    if model is None:
        if rounds:
            raise UsageError("rounds need a trained model", where="--rounds", mend="Name one with --model")
        return
    if with_ not in ("bm25", "unigen"):
        raise UsageError(
            f"a model finds passages itself, so that {with_!r} would not be asked",
            where="--with",
            mend="Leave it out, or ask without --model",
        )


class _Shown:
    """One passage as it is shown: its hit, its snippet, and its own best span."""

    def __init__(self, rank: int, score: float, doc_id: str, text: str, marks: list[Span], span: PassageSpan | None):
        self.rank = rank
        self.score = score
        self.doc_id = doc_id
        self.text = text
        self.marks = marks
        self.span = span


def _passages(index: Index, query: Query, run: Run, spans: dict[str, PassageSpan]) -> list[_Shown]:
    from retgen.lexical import Analyzer

    analyse = Analyzer(language_of(index))
    shown: list[_Shown] = []
    for hit in run[query.id]:
        text = index.corpus[hit.doc_id].text
        span = spans.get(hit.doc_id)
        if span is not None:
            marks, sentence = [(span.start, span.end)], span.sentence
        else:
            words = matching_words(text, query.text, analyse)
            marks, sentence = [], best_sentence(text, words)
        cut, places = snippet(text, sentence, marks)
        shown.append(_Shown(hit.rank, hit.score, hit.doc_id, cut, places, span))
    return shown


def _as_json(question: str, answer: Answer, index: Index, shown: list[_Shown]) -> dict[str, object]:
    return {
        "question": question,
        "answer": answer.text,
        "score": answer.score,
        "source": answer.source,
        "details": dict(answer.details),
        "passages": [
            {
                "rank": passage.rank,
                "doc_id": passage.doc_id,
                "document_id": index.corpus.document_id(passage.doc_id),
                "score": passage.score,
                "title": title_of(index.corpus[passage.doc_id]),
                "snippet": passage.text,
                "span": passage.span.text if passage.span is not None else None,
                "start": passage.span.start if passage.span is not None else None,
                "end": passage.span.end if passage.span is not None else None,
            }
            for passage in shown
        ],
    }


def _print(answer: Answer, index: Index, shown: list[_Shown]) -> None:
    from rich.text import Text

    console = results()
    if not shown:
        console.print("No passage shares a word with this question.", markup=False)
        return
    if answer.text and answer.source is not None:
        console.print(
            Text.assemble(
                (answer.text, _CONTEXT_STYLE), f"   (best span, from {title_of(index.corpus[answer.source])})"
            )
        )
    else:
        console.print("No span in these passages looks like an answer.", markup=False)
    for passage in shown:
        title = title_of(index.corpus[passage.doc_id])
        console.print(f"\n{passage.rank:>3}  {passage.score:8.4f}  {title}  ({passage.doc_id})", markup=False)
        console.print(indented(marked(passage.text, passage.marks)))
