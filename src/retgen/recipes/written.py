"""Stages whose texts a language model writes: Q- and D-Connectors, pseudo answers, rounds of UniGen-Iter, answers.

They run in the recipe's own process, so that one endpoint, one ledger and one budget serve them all.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from retgen.connect import pseudo_questions
from retgen.connect.docid_quality import docid_quality
from retgen.connect.docid_texts import docid_texts
from retgen.connect.files import WrittenText, read_texts, write_texts
from retgen.connect.prompted import PromptedWriter
from retgen.connect.rounds import fed_back
from retgen.connect.spending import NOTHING, Spending, spending
from retgen.corpus import Corpus
from retgen.generative.unigen import UniGen
from retgen.iterate import iterate
from retgen.llm.requests import CompletionRequest
from retgen.recipes.collections import SPLITS, read_connectors, read_questions, write_connectors, write_questions
from retgen.recipes.context import StageContext, StageError
from retgen.recipes.measuring import write_outcome
from retgen.recipes.ranking import outcome_of
from retgen.recipes.stages import stage
from retgen.recipes.writers import Author, writer_of
from retgen.types import Answer, Document, Triplet

COSTS = "costs.json"
DOCIDS = "docids.jsonl"
QUALITY = "quality.json"
PSEUDO = "pseudo"
BARE = "Answer the question in at most six words. Reply with the answer alone.\n Question: {q}"
"""The prompt of a model that is asked a bare question: that of its answers from a document, without the document."""
_ANSWER_WORDS = 6


@stage("q-connectors", version="1", needs=["collection"])
def q_connectors(context: StageContext, by: Author, words: int = 60) -> None:
    """The Q-Connector of every question, which reads no corpus.

    Args:
        context: of the stage.
        by: who writes.
        words: of a context (n of the paper).
    """
    writer = writer_of(context, by)
    requests: list[CompletionRequest] = []
    left = 0
    for split in SPLITS:
        queries = [triplet.query for triplet in read_questions(context.input("collection"), split)]
        connectors = writer.contextualise(queries, words)
        requests += writer.context_requests(queries, words)
        left += sum(connector.writer != writer.name for connector in connectors)
        connected = [query.with_connector(text) for query, text in zip(queries, connectors, strict=True)]
        write_connectors(context.folder / f"{split}.jsonl", connected)
    if left:
        context.log(f"{left} questions got no context and stand for themselves")
    _write_costs(context.folder, {"": _spent(writer, requests)})


@stage("d-connectors", version="1", needs=["collection"])
def d_connectors(context: StageContext, by: Author, words: int = 30) -> None:
    """The D-Connector of every document, as docid texts, and how good they are as names.

    Args:
        context: of the stage.
        by: who writes.
        words: of a summary (m of the paper).
    """
    writer = writer_of(context, by)
    documents = list(Corpus.open(context.input("collection") / "corpus"))
    docids = docid_texts(documents, writer.summarise(documents, words), writer.name, words=words)
    pairs = zip(documents, docids, strict=True)
    write_texts(
        context.folder / DOCIDS,
        (WrittenText(document.id, docid.text, docid.writer, 0, document.title) for document, docid in pairs),
    )
    quality = docid_quality(documents, docids)
    (context.folder / QUALITY).write_text(json.dumps(quality.to_json(), indent=1), encoding="utf-8")
    context.log(str(quality))
    _write_costs(context.folder, {"": _spent(writer, writer.summary_requests(documents, words))})


@stage("pseudo-answers", version="1", needs=["collection", "queries?"])
def pseudo_answers(context: StageContext, by: Author, per_document: int = 10, seed: int = 0) -> None:
    """Pseudo questions of every document, answered from it: what pre-training reads.

    Without ``queries`` of a query generator (a stage ``pseudo-queries``, as in the paper) the questions are made
    without a model (`retgen.connect.pseudo`); where the writer has no answer, the words that such a question was made
    around are kept.

    Args:
        context: of the stage.
        by: who answers.
        per_document: questions (K of the paper); of those given, at most.
        seed: of the choice of questions that are made here.
    """
    writer = writer_of(context, by)
    corpus = Corpus.open(context.input("collection") / "corpus")
    if "queries" in context.inputs:
        pseudo = _first_of_each(read_pseudo(context.input("queries")), per_document)
    else:
        pseudo = pseudo_questions(corpus, per_document, seed)
    queries = [triplet.query for triplet in pseudo]
    documents = [corpus[triplet.doc_ids[0]] for triplet in pseudo]
    answers = writer.answer(queries, documents)
    answered = [
        Triplet(triplet.query, (answer,) if answer else triplet.answers, triplet.doc_ids)
        for triplet, answer in zip(pseudo, answers, strict=True)
    ]
    write_questions(context.folder, PSEUDO, answered)
    kept = sum(not answer for answer in answers)
    if kept:
        context.log(f"{kept} pseudo questions got no answer and keep what words they were made around")
    _write_costs(context.folder, {"": _spent(writer, writer.answer_requests(queries, documents))})


@stage("written-iterations", version="1", needs=["collection", "model", "contexts"])
def written_iterations(
    context: StageContext, by: Author, rounds: int = 2, feedback_documents: int = 3, words: int = 60
) -> None:
    """UniGen-Iter without refit, the writer making each round's contexts of what the last one found and said.

    Args:
        context: of the stage.
        by: who writes.
        rounds: on top of round 0; every one is kept as ``round<n>``, the last also as ``test``.
        feedback_documents: that the writer is given (k of the paper).
        words: of a context (n of the paper).
    """
    writer = writer_of(context, by)
    system = UniGen.open(context.input("model") / "unigen")
    corpus = Corpus.open(context.input("collection") / "corpus")
    queries = read_connectors(context.input("contexts") / "test.jsonl")
    done = iterate(system, queries, corpus, writer, rounds=rounds, feedback_documents=feedback_documents, words=words)
    costs = {"round0": NOTHING}
    for round_ in done:
        write_outcome(context.folder, round_.run, round_.answers, round_.seconds, f"round{round_.number}")
        write_connectors(context.folder / f"round{round_.number}.connectors.jsonl", round_.queries)
    for last, now in itertools.pairwise(done):
        found = fed_back(last.queries, last.run, corpus, feedback_documents)
        asked = writer.enhance_requests(last.queries, found, last.answers, words)
        costs[f"round{now.number}"] = _spent(writer, asked)
    costs[""] = sum(costs.values(), NOTHING)
    write_outcome(context.folder, done[-1].run, done[-1].answers, sum(round_.seconds for round_ in done))
    _write_costs(context.folder, costs)


@stage("prompted-answers", version="1", needs=["collection", "outcome?"])
def prompted_answers(context: StageContext, by: Author, passages: int = 3) -> None:
    """A language model's answers to the test questions: bare, or from the passages that another system found.

    They have no scores, so that there is nothing to calibrate.

    Args:
        context: of the stage; without ``outcome`` the model is asked the bare question, and reads no corpus.
        by: who answers.
        passages: of the outcome's run that it reads, one behind the other.
    """
    queries = [triplet.query for triplet in read_questions(context.input("collection"), "test")]
    start = time.perf_counter()
    if "outcome" not in context.inputs:
        # The job whose prompt takes the question alone, with another prompt.
        writer = writer_of(context, by.model_copy(update={"prompts": {**by.prompts, "contextualise": BARE}}))
        written = writer.contextualise(queries, _ANSWER_WORDS)
        texts = [text.text if text.writer == writer.name else "" for text in written]
        answers = [Answer(query.id, text) for query, text in zip(queries, texts, strict=True)]
        requests = writer.context_requests(queries, _ANSWER_WORDS)
        write_outcome(context.folder, None, answers, time.perf_counter() - start)
    else:
        writer = writer_of(context, by)
        corpus = Corpus.open(context.input("collection") / "corpus")
        found, seconds = outcome_of(context.input("outcome"), "test")
        shown = [found.doc_ids(query.id)[:passages] for query in queries]
        documents = [Document("", "\n".join(corpus[doc_id].contents for doc_id in ids)) for ids in shown]
        texts = writer.answer(queries, documents)
        answers = [
            Answer(query.id, text, passages=tuple(ids)) for query, text, ids in zip(queries, texts, shown, strict=True)
        ]
        requests = writer.answer_requests(queries, documents)
        write_outcome(context.folder, found, answers, seconds + time.perf_counter() - start, cited=True)
    _write_costs(context.folder, {"": _spent(writer, requests)})


@stage("connector-costs", version="1")
def connector_costs(context: StageContext, name: str = "") -> None:
    """What the texts of some stages cost when they were written: the columns ``tokens`` and ``money``.

    Args:
        context: of the stage; needs stages of the kinds above.
        name: of a round, ``round<n>``; all by default.
    """
    total = NOTHING
    for folder in context.inputs.values():
        costs = json.loads((folder / COSTS).read_text(encoding="utf-8"))
        total += Spending(**costs[name])
    context.report({"tokens": total.tokens, "money": total.money, "completions": total.completions})


def docid_connectors(context: StageContext, docid_scheme: str) -> dict[str, str] | None:
    """The D-Connectors of all documents by id, where a stage that trains is given any in the role ``docids``.

    Raises:
        StageError: the docid scheme asks for them and they are not given, or the other way round.
    """
    if (docid_scheme == "connector") != ("docids" in context.inputs):
        raise StageError(
            f"the docid scheme {docid_scheme!r} does not fit: it is 'connector' exactly where docids are needed",
            where=context.name,
            mend="Give the stage needs: {docids: ...} and docid_scheme: connector, or neither",
        )
    if "docids" not in context.inputs:
        return None
    return {doc_id: found.text for doc_id, found in read_texts(context.input("docids") / DOCIDS).items()}


def read_pseudo(folder: Path) -> list[Triplet]:
    """The pseudo questions that a stage of kind ``pseudo-answers`` wrote."""
    return read_questions(folder, PSEUDO)


def _first_of_each(pseudo: Iterable[Triplet], per_document: int) -> list[Triplet]:
    met: Counter[tuple[str, ...]] = Counter()
    first = []
    for triplet in pseudo:
        met[triplet.doc_ids] += 1
        if met[triplet.doc_ids] <= per_document:
            first.append(triplet)
    return first


def _spent(writer: PromptedWriter, requests: Iterable[CompletionRequest]) -> Spending:
    return spending(writer.ledger, requests)


def _write_costs(folder: Path, costs: dict[str, Spending]) -> None:
    content = {name: asdict(found) for name, found in costs.items()}
    (folder / COSTS).write_text(json.dumps(content, indent=1), encoding="utf-8")
