"""``retgen ask --model``: UniGen's answer, and the passages it retrieved alongside, which it did not read it from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retgen.cli.connect_writers import WriterOptions, open_prompted
from retgen.cli.docid_search import DocidSearch, certificate_told
from retgen.cli.passages import best_sentence, indented, marked, matching_words, snippet, title_of
from retgen.cli.running import results, write_json
from retgen.cli.search import language_of
from retgen.cli.training_progress import quiet_transformers
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.connect import Writer
    from retgen.corpus import Corpus
    from retgen.generative import UniGen
    from retgen.index import Index
    from retgen.iterate import Round
    from retgen.text import Span
    from retgen.types import Answer, Document, DocumentFilter, Hit, Query


def open_model(
    model: Path,
    index: Index,
    device: str,
    k: int,
    docid_search: DocidSearch,
    keep: DocumentFilter | None,
    writer: Writer | None = None,
) -> UniGen:
    """A trained model over an index, with beams enough for ``k`` hits, and over what a filter keeps.

    ``writer`` is a language model, for a model that was trained on its connectors.

    Raises:
        UsageError: ``docid_search`` does not fit the model's own settings.
    """
    from retgen.generative.over_index import open_unigen

    quiet_transformers()
    system = open_unigen(model, index, device=device, filter=keep, writer=writer)
    system.settings = docid_search.applied(system.settings, beams=k)
    return system


def ask_unigen(
    index: Index,
    question: str,
    model: Path,
    *,
    k: int,
    rounds: int,
    device: str,
    docid_search: DocidSearch,
    keep: DocumentFilter | None,
    as_json: bool,
    writer: WriterOptions | None = None,
) -> None:
    """Answer a question by a trained UniGen, and print it.

    Raises:
        UsageError: rounds are asked of a model that reads plain questions, or an option does not fit the model.
        MismatchError: the model was trained on another corpus.
    """
    from retgen.iterate import iterate
    from retgen.llm.prompts import DEFAULT_FEEDBACK_DOCUMENTS
    from retgen.types import Query

    written = None if writer is None else open_prompted(writer, None)
    system = open_model(model, index, device, k, docid_search, keep, written)
    # A next round's BM25 context lists as many passages as the first one's; a language model is given the paper's few.
    fed_back = system.settings.context_listed if written is None else DEFAULT_FEEDBACK_DOCUMENTS
    found = max(k, fed_back)
    system.settings = docid_search.applied(system.settings, beams=found)
    query = Query("q1", question)
    if system.writer is None:
        if rounds:
            raise UsageError(
                "this model reads plain questions, so that further rounds would show it nothing new",
                where="--rounds",
                mend="Leave --rounds out, or use a model that was trained with contexts",
            )
        run, answers = system.search_and_answer([query], k=found)
        from retgen.iterate import Round

        done = [Round(0, [query], run, answers)]
    else:
        words = system.settings.context_words
        done = iterate(
            system,
            [query],
            index.corpus,
            system.writer,
            rounds=rounds,
            feedback_documents=fed_back,
            words=words,
            k=found,
        )
    if as_json:
        write_json(_as_json(index, query, done, k))
    else:
        _print(index, query, done, k)


def answer_in_passage(answer: str, document: Document) -> bool:
    """Whether the answer's words stand in the passage, token for token."""
    from retgen.text import has_answer

    return has_answer([answer], document.text)


def print_alongside(corpus: Corpus, language: str, question: str, answer: str, hits: Sequence[Hit]) -> None:
    """Passages, each with whether it holds the answer; ``language`` is that of the words to look for."""
    console = results()
    for hit in hits:
        document = corpus[hit.doc_id]
        holds = "holds the answer" if answer_in_passage(answer, document) else "does not hold the answer"
        shown, places = _snippet(language, question, answer, document)
        console.print(
            f"\n{hit.rank:>3}  {hit.score:8.4f}  {title_of(document)}  ({hit.doc_id})   {holds}", markup=False
        )
        console.print(indented(marked(shown, places)))


def _snippet(language: str, question: str, answer: str, document: Document) -> tuple[str, list[Span]]:
    from retgen.lexical import Analyzer

    place = document.text.lower().find(answer.lower()) if answer else -1
    marks = [(place, place + len(answer))] if place >= 0 else []
    words = marks or matching_words(document.text, question, Analyzer(language))
    return snippet(document.text, best_sentence(document.text, words), marks)


def _print(index: Index, query: Query, done: list[Round], k: int) -> None:
    from rich.text import Text

    console = results()
    for earlier in done[:-1]:
        console.print(f"round {earlier.number}: {_said(earlier.answers[0])}", style="dim", markup=False)
    answer = done[-1].answers[0]
    rounds = f", round {done[-1].number}" if done[-1].number else ""
    if answer.text:
        console.print(
            Text.assemble((answer.text, "bold green"), f"   (UniGen{rounds}, log-probability {answer.score:.2f})")
        )
    else:
        console.print(f"UniGen{rounds} has no answer.", markup=False)
    console.print("\nRetrieved alongside; the answer was not read from these passages:", style="dim", markup=False)
    print_alongside(index.corpus, language_of(index), query.text, answer.text, done[-1].run[query.id][:k])
    certificate = _certificate(done[-1], query)
    if certificate is not None:
        console.print(f"\n{certificate_told(certificate)}", style="dim", markup=False)


def _certificate(last: Round, query: Query) -> dict[str, object] | None:
    """What an exact search certifies of all passages that the last round found, of which ``-k`` are shown."""
    from retgen.generative.docid_run import certificate_of

    hits = last.run[query.id]
    return certificate_of(hits[0].components) if hits else None


def _said(answer: Answer) -> str:
    return answer.text or "no answer"


def _as_json(index: Index, query: Query, done: list[Round], k: int) -> dict[str, object]:
    last = done[-1]
    answer = last.answers[0]
    connector = last.queries[0].connector
    passages = []
    for hit in last.run[query.id][:k]:
        document = index.corpus[hit.doc_id]
        passages.append(
            {
                "rank": hit.rank,
                "doc_id": hit.doc_id,
                "document_id": index.corpus.document_id(hit.doc_id),
                "score": hit.score,
                "title": title_of(document),
                "snippet": _snippet(language_of(index), query.text, answer.text, document)[0],
                "answer_in_passage": answer_in_passage(answer.text, document),
            }
        )
    certificate = _certificate(last, query)
    return {
        "question": query.text,
        "answer": answer.text,
        "score": answer.score,
        "source": None,
        **({} if certificate is None else {"certificate": certificate}),
        "context": connector.text if connector is not None else None,
        "context_by": connector.writer if connector is not None else None,
        "passages": passages,
        "rounds": [
            {"round": each.number, "answer": each.answers[0].text, "doc_ids": each.run.doc_ids(query.id)[:k]}
            for each in done
        ],
    }
