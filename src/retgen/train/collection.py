"""From a collection, with or without questions, to a trained UniGen: questions, contexts, two stages, and resuming.

Without questions it trains on pseudo questions made from the documents' own sentences, and holds some of them out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retgen.connect.pseudo import pseudo_questions
from retgen.connect.writer import Writer
from retgen.corpus import Corpus
from retgen.errors import RetgenError, UsageError
from retgen.generative.over_index import BM25_CONTEXT, bm25_context_writer
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.store.placing import locked
from retgen.train.build import LOCAL_DEPTH, LOCAL_OPTIONS, DocidOptions, build_unigen
from retgen.train.collection_plan import CollectionTraining, agree
from retgen.train.examples import UniGenExample, finetuning_examples, pretraining_examples
from retgen.train.improvement import Gain, first_minute, gains
from retgen.train.questions import CollectionQuestions
from retgen.train.unigen import DevSet, train_unigen
from retgen.types import Query, Retriever, Triplet

Progress = Callable[[str, int, int, str], None]
"""Called with what is being done, how much of it is done, of how much, and what was last measured."""
_BLOCK = 64


def train_on_collection(
    corpus: Corpus,
    retriever: Retriever,
    questions: CollectionQuestions,
    place: str | Path,
    *,
    options: CollectionTraining,
    connectors: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> UniGen:
    """Train in two stages, resuming what an earlier call with the same arguments left in ``place``.

    First ⟨q_k + d⟩ on pseudo questions, then ⟨q_c⟩ with BM25 contexts, made for training questions exactly as they will
    be for a user's (paper, "Joint Learning of Retrieval and QA").

    Args:
        corpus: the collection; in a chunked one every chunk is a passage of its own.
        retriever: its BM25.
        questions: see `retgen.train.questions.collection_questions`.
        place: a folder for checkpoints. It is the caller's to remove once the system is saved.
        options: of the training.
        connectors: D-Connectors by document id, exactly where ``options.docids`` is ``connector``.
        device: ``auto``, ``cpu``, ``cuda``…
        progress: told of each step.

    Returns:
        The trained system, with its writer and its history.

    Raises:
        UsageError: the best weights are asked for, and there are no dev questions to tell them by; docids are to be
            connectors and these are missing, or the other way round.
        MismatchError: ``place`` holds the checkpoints of another training.
        LockedError: another process trains there.
    """
    place = Path(place)
    report = progress or (lambda _what, _done, _total, _text: None)
    if options.keep_best and not questions.dev:
        raise UsageError("the best weights cannot be told without dev questions", mend="Give more questions")
    if (options.docids == "connector") != (connectors is not None):
        raise UsageError(
            f"documents are to be named by their {options.docids}, and connectors are "
            f"{'missing' if connectors is None else 'given'}",
            mend="Give both docids='connector' and the connectors, or neither",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.resolve()):
        agree(place, corpus, questions, options, connectors)
        work = _Work(corpus, retriever, questions, place, options, connectors, device, report)
        return work.trained()


@dataclass(slots=True)
class _Work:
    """One training: what is done is kept in folders of its own, so that nothing is done twice."""

    corpus: Corpus
    retriever: Retriever
    questions: CollectionQuestions
    place: Path
    options: CollectionTraining
    connectors: Mapping[str, str] | None
    device: str
    report: Progress

    def trained(self) -> UniGen:
        return self._kept("trained", self._finetuned)

    def _kept(self, name: str, make: Callable[[], UniGen]) -> UniGen:
        folder = self.place / name
        if folder.exists():
            system = UniGen.open(folder, corpus_fingerprint=self.corpus.fingerprint, device=self.device)
        else:
            system = make()
            system.save(folder)
        if system.writer is None:
            system.writer = bm25_context_writer(system.table, self.retriever, self.corpus, settings=system.settings)
        return system

    def _built(self) -> UniGen:
        options = self.options
        self.report("building the model", 0, 0, options.source)
        return build_unigen(
            list(self.corpus),
            options.source,
            docids=DocidOptions(options.docids),
            connectors=self.connectors,
            settings=UniGenSettings(
                max_input_tokens=options.max_input_tokens,
                answer_strategy=options.answer_strategy,
                context_words=options.context_words,
                context=BM25_CONTEXT,
            ),
            corpus_fingerprint=self.corpus.fingerprint,
            extra_texts=[triplet.query.text for triplet in self.questions.train],
            seed=options.seed,
            device=self.device,
            **LOCAL_OPTIONS,
            **LOCAL_DEPTH.get(options.source, {}),
        )

    def _pretrained(self) -> UniGen:
        system = self._kept("built", self._built)
        steps = self.options.pretraining_steps
        if steps:
            pseudo = self.questions.train
            if not self.questions.pseudo:
                pseudo = pseudo_questions(self.corpus, self.options.pseudo_per_document, self.options.seed)
            examples = pretraining_examples(self._some(pseudo, steps), self.corpus, system.table)
            # A collection without statements has no pseudo questions; its given ones are trained on all the same.
            if examples:
                self._stage(0, system, examples, steps)
        return system

    def _finetuned(self) -> UniGen:
        system = self._kept("pretrained", self._pretrained)
        steps = self.options.steps
        triplets = self._some(self.questions.train, steps)
        queries = self._with_contexts(system, triplets, "writing contexts")
        examples = finetuning_examples(triplets, queries, system.table)
        if not examples:
            raise RetgenError(
                "no training question has a relevant document or an answer", mend="Give questions that have"
            )
        dev = None
        if self.questions.dev and self.options.measured_every:
            asked = list(self.questions.dev)
            dev = DevSet(self._with_contexts(system, asked, "writing contexts of dev questions"), asked)
        self._stage(1, system, examples, steps, dev)
        return system

    def _with_contexts(self, system: UniGen, triplets: Sequence[Triplet], what: str) -> list[Query]:
        assert system.writer is not None
        queries = [triplet.query for triplet in triplets]
        return with_contexts(
            system.writer,
            queries,
            self.options.context_words,
            lambda done, total: self.report(what, done, total, ""),
        )

    def _some(self, triplets: Sequence[Triplet], steps: int) -> list[Triplet]:
        # More than are ever read would only cost the time their contexts take.
        most = steps * self.options.batch_size
        if len(triplets) <= most:
            return list(triplets)
        return sorted(triplets, key=lambda triplet: zlib.crc32(triplet.query.id.encode()))[:most]

    def _stage(
        self, number: int, system: UniGen, examples: Sequence[UniGenExample], steps: int, dev: DevSet | None = None
    ) -> None:
        name = ("pre-training", "training")[number]
        options = replace(
            self.options.stage(steps),
            shuffle_passages=0.5 if number else 0.0,
            eval_steps=self.options.measured_every if dev is not None else 0,
            keep_best=self.options.keep_best and dev is not None,
        )
        record = train_unigen(
            system,
            examples,
            self.place / name,
            options=options,
            dev=dev,
            progress=lambda done, total, text: self.report(name, done, total, text),
        )
        system.history += [{**row, "stage": number} for row in record.history]
        last = {key.removeprefix("eval_"): value for row in record.history for key, value in row.items()}
        measured = ", ".join(f"{key} {last[key]:.3f}" for key in ("MRR@10", "EM") if key in last)
        if measured:
            # The last measure comes after the last step.
            self.report(name, steps, steps, f"dev questions: {measured}")


def with_contexts(
    writer: Writer, queries: Sequence[Query], words: int, progress: Callable[[int, int], None] | None = None
) -> list[Query]:
    """The queries with the writer's contexts, written in blocks."""
    written: list[Query] = []
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        connectors = writer.contextualise(block, words=words)
        written += [query.with_connector(text) for query, text in zip(block, connectors, strict=True)]
        if progress is not None:
            progress(len(written), len(queries))
    return written


def measured(
    system: UniGen,
    retriever: Retriever,
    corpus: Corpus,
    questions: CollectionQuestions,
    *,
    most: int = 500,
    progress: Progress | None = None,
) -> dict[str, Gain]:
    """The held-out questions asked of the trained system and of BM25 with the best span: measure → gain.

    Args:
        system: with its writer.
        retriever: its BM25.
        corpus: the collection.
        questions: whose held-out part is asked.
        most: questions to ask, chosen by the hash of their ids.
        progress: told of each block.
    """
    triplets = sorted(questions.held_out, key=lambda triplet: zlib.crc32(triplet.query.id.encode()))[:most]
    queries = [triplet.query for triplet in triplets]
    if not queries:
        return {}
    before = first_minute(queries, retriever, corpus)
    report = progress or (lambda _what, _done, _total, _text: None)
    after = system.search_and_answer(
        queries, k=10, progress=lambda done, total: report("measuring", done, total, "held-out questions")
    )
    return gains(before, after, triplets)
