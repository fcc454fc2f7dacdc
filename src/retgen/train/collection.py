"""From a collection, with or without questions, to a trained UniGen: questions, contexts, two stages, and resuming.

Without questions it trains on pseudo questions made from the documents' own sentences, and holds some of them out.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from retgen.connect.pseudo import PSEUDO_PER_DOCUMENT, pseudo_questions
from retgen.connect.writer import Writer
from retgen.corpus import Corpus
from retgen.errors import ArtefactError, MismatchError, RetgenError, UsageError
from retgen.generative.over_index import BM25_CONTEXT, bm25_context_writer
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.sources import SCRATCH, WARM
from retgen.store import write_atomic
from retgen.store.placing import locked
from retgen.train.build import LOCAL_DEPTH, LOCAL_OPTIONS, DocidOptions, build_unigen
from retgen.train.examples import UniGenExample, finetuning_examples, pretraining_examples
from retgen.train.improvement import Gain, first_minute, gains
from retgen.train.questions import CollectionQuestions
from retgen.train.unigen import UniGenTraining, train_unigen
from retgen.types import Query, Retriever, Triplet

Progress = Callable[[str, int, int, str], None]
"""Called with what is being done, how much of it is done, of how much, and what was last measured."""
_PLAN = "plan.json"
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class CollectionTraining:
    """What to train, and how long.

    Args:
        source: of the weights, see `retgen.models.sources.load_model`.
        docids: ``lead`` or ``title``.
        steps: of fine-tuning on ⟨q_c → d_c⟩, ⟨q_c → a⟩. 300 of 8 are minutes on two cores.
        pretraining_steps: on ⟨q_k + d → d_c⟩, ⟨q_k + d → a_k⟩; 0 leaves that stage out.
        batch_size: examples a step.
        learning_rate: None takes one that suits the source.
        answer_strategy: how answers are decoded; ``span`` needs least training.
        pseudo_per_document: K of the paper, at most.
        context_words: quoted in a question's context.
        max_input_tokens: longer inputs are cut.
        save_steps: between checkpoints.
        seed: of everything random.
    """

    source: str
    docids: str = "lead"
    steps: int = 300
    pretraining_steps: int = 50
    batch_size: int = 8
    learning_rate: float | None = None
    answer_strategy: str = "span"
    pseudo_per_document: int = PSEUDO_PER_DOCUMENT
    context_words: int = 60
    max_input_tokens: int = 224
    save_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.pretraining_steps < 0 or self.batch_size < 1:
            raise UsageError(
                f"cannot train {self.steps} steps of {self.batch_size} examples after {self.pretraining_steps}",
                mend="Give at least one step and one example a step",
            )
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise UsageError(f"a learning rate of {self.learning_rate} teaches nothing", mend="Give one above 0")

    def stage(self, steps: int) -> UniGenTraining:
        """The options of one stage of so many steps."""
        warm, scratch = self.source.startswith(WARM), self.source.startswith(SCRATCH)
        usual = 2e-4 if warm else 1e-3 if scratch else 5e-4
        return UniGenTraining(
            max_steps=steps,
            batch_size=self.batch_size,
            learning_rate=usual if self.learning_rate is None else self.learning_rate,
            fresh_learning_rate=1e-3 if warm else None,
            warmup_steps=min(50, steps // 6),
            frozen_layers=1 if warm else 0,
            save_steps=self.save_steps,
            seed=self.seed,
        )


def train_on_collection(
    corpus: Corpus,
    retriever: Retriever,
    questions: CollectionQuestions,
    place: str | Path,
    *,
    options: CollectionTraining,
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
        device: ``auto``, ``cpu``, ``cuda``…
        progress: told of each step.

    Returns:
        The trained system, with its writer.

    Raises:
        MismatchError: ``place`` holds the checkpoints of another training.
        LockedError: another process trains there.
    """
    place = Path(place)
    report = progress or (lambda _what, _done, _total, _text: None)
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.resolve()):
        _agree(place, corpus, questions, options)
        work = _Work(corpus, retriever, questions, place, options, device, report)
        return work.trained()


def _agree(place: Path, corpus: Corpus, questions: CollectionQuestions, options: CollectionTraining) -> None:
    asked = json.dumps([[asdict(triplet) for triplet in part] for part in (questions.train, questions.held_out)])
    plan = {
        **asdict(options),
        "corpus": corpus.fingerprint,
        "questions": hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest(),
    }
    if not (place / _PLAN).exists():
        if place.exists() and any(place.iterdir()):
            raise ArtefactError("a folder that is no training's stands there", where=place, mend="Move it away")
        place.mkdir(exist_ok=True)
        write_atomic(place / _PLAN, json.dumps(plan, indent=1) + "\n")
        return
    try:
        earlier = dict(json.loads((place / _PLAN).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ArtefactError("its plan cannot be read", where=place, mend="Remove the folder") from error
    other = [name for name in plan if earlier.get(name) != plan[name]]
    if other:
        changed = ", ".join(
            name if name in ("corpus", "questions") else f"{name} was {earlier.get(name)!r}" for name in other
        )
        raise MismatchError(
            f"a training with other settings was begun there ({changed})",
            where=place,
            mend="Give the same settings to go on with it, or begin anew with --no-resume",
        )


@dataclass(slots=True)
class _Work:
    """One training: what is done is kept in folders of its own, so that nothing is done twice."""

    corpus: Corpus
    retriever: Retriever
    questions: CollectionQuestions
    place: Path
    options: CollectionTraining
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
            system.writer = bm25_context_writer(system.table, self.retriever, self.corpus)
        return system

    def _built(self) -> UniGen:
        options = self.options
        self.report("building the model", 0, 0, options.source)
        return build_unigen(
            list(self.corpus),
            options.source,
            docids=DocidOptions(options.docids),
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
                self._stage("pre-training", system, examples, steps, shuffle=0.0)
        return system

    def _finetuned(self) -> UniGen:
        system = self._kept("pretrained", self._pretrained)
        steps = self.options.steps
        triplets = self._some(self.questions.train, steps)
        assert system.writer is not None
        queries = with_contexts(
            system.writer, [triplet.query for triplet in triplets], self.options.context_words, self.report
        )
        examples = finetuning_examples(triplets, queries, system.table)
        if not examples:
            raise RetgenError(
                "no training question has a relevant document or an answer", mend="Give questions that have"
            )
        self._stage("training", system, examples, steps, shuffle=0.5)
        return system

    def _some(self, triplets: Sequence[Triplet], steps: int) -> list[Triplet]:
        # More than are ever read would only cost the time their contexts take.
        most = steps * self.options.batch_size
        if len(triplets) <= most:
            return list(triplets)
        return sorted(triplets, key=lambda triplet: zlib.crc32(triplet.query.id.encode()))[:most]

    def _stage(
        self, name: str, system: UniGen, examples: Sequence[UniGenExample], steps: int, *, shuffle: float
    ) -> None:
        folder = self.place / name
        train_unigen(
            system,
            examples,
            folder,
            options=replace(self.options.stage(steps), shuffle_passages=shuffle),
            progress=lambda done, total, text: self.report(name, done, total, text),
        )


def with_contexts(
    writer: Writer, queries: Sequence[Query], words: int, progress: Progress | None = None
) -> list[Query]:
    """The queries with the writer's contexts, written in blocks."""
    written: list[Query] = []
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        connectors = writer.contextualise(block, words=words)
        written += [query.with_connector(text) for query, text in zip(block, connectors, strict=True)]
        if progress is not None:
            progress("writing contexts", len(written), len(queries), "")
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


def remove_training(place: str | Path) -> None:
    """Remove what `train_on_collection` kept; nothing else is ever removed.

    Raises:
        ArtefactError: the folder is no training's.
    """
    place = Path(place)
    if not place.exists():
        return
    if not (place / _PLAN).exists():
        raise ArtefactError("a folder that is no training's stands there", where=place, mend="Move it away")
    with locked(place.resolve()):
        # Moved first: nobody resumes from what is half removed.
        aside = place.with_name(f".{place.name}.removing")
        shutil.rmtree(aside, ignore_errors=True)
        place.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
