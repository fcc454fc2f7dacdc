"""From a collection's questions to a trained bi-encoder: DPR on BM25's negatives, then ANCE's rounds on its own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from retgen.corpus import Corpus
from retgen.dense import DenseRetriever, IndexKind
from retgen.dense.encoder import load_encoder, save_encoder
from retgen.dense.fresh import Pooling, Similarity, begin_encoder
from retgen.devices import pick_device
from retgen.errors import UsageError
from retgen.store.placing import locked
from retgen.train.ance import train_ance
from retgen.train.bi_encoder import BiEncoderTraining, DevPool, train_bi_encoder
from retgen.train.candidates import LabelledCandidates
from retgen.train.collection_plan import agree
from retgen.train.hard_negatives import with_negatives
from retgen.train.improvement import Gain, run_gains
from retgen.train.questions import CollectionQuestions
from retgen.train.resumable import TrainingRecord
from retgen.types import Retriever, Triplet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Progress = Callable[[str, int, int, str], None]
"""Called with what is being done, how much of it is done, of how much, and what was last measured."""
_SPARE = 4


@dataclass(frozen=True, slots=True)
class DensePlan:
    """What to train, and how.

    Args:
        source: of the weights, see `retgen.dense.fresh.begin_encoder`.
        training: of DPR.
        pooling: of ``warm:`` and ``scratch:`` sources, ``mean`` or ``cls``.
        similarity: of them, ``cosine`` or ``dot``.
        towers: 1, or 2 for an encoder of questions and one of documents.
        max_length: tokens of a text; longer ones are cut. 0 is the source's own.
        depth: hard negatives are drawn from BM25's best so many. DPR takes the first: few are the hardest.
        rounds: of ANCE, behind DPR; 0 for none.
        round_steps: of each; 0 takes an even share of the first training's steps or epochs.
        own_depth: in those rounds, of the model's own best so many.
        index: that is searched then.
    """

    source: str
    training: BiEncoderTraining
    pooling: Pooling = "mean"
    similarity: Similarity = "cosine"
    towers: int = 1
    max_length: int = 0
    depth: int = 20
    rounds: int = 0
    round_steps: int = 0
    own_depth: int = 100
    index: str = "flat"

    def __post_init__(self) -> None:
        for name, least in (("max_length", 0), ("depth", 1), ("rounds", 0), ("round_steps", 0), ("own_depth", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}; got {getattr(self, name)}")
        for name, choices in (("pooling", ("mean", "cls")), ("similarity", ("cosine", "dot")), ("towers", (1, 2))):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be {choices[0]} or {choices[1]}, not {getattr(self, name)}")
        IndexKind.parse(self.index)

    def of_a_round(self) -> BiEncoderTraining:
        """The options of a round."""
        if self.round_steps:
            return replace(self.training, max_steps=self.round_steps)
        share = max(1, self.rounds)
        steps = self.training.max_steps
        epochs = self.training.epochs / share
        return replace(self.training, max_steps=-(-steps // share) if steps else 0, epochs=epochs)


def bm25_negatives(
    triplets: Sequence[Triplet], retriever: Retriever, corpus: Corpus, depth: int
) -> list[LabelledCandidates]:
    """The questions' relevant passages, and the best that a lexical search finds beside them."""
    # The relevant ones are among what is found: ask for more, so that as many others are left.
    run = retriever.search([triplet.query for triplet in triplets], depth + _SPARE)
    return with_negatives(triplets, {query_id: run.doc_ids(query_id) for query_id in run}, corpus, depth=depth + _SPARE)


@dataclass(frozen=True, slots=True)
class TrainedBiEncoder:
    """A bi-encoder, and the records of DPR and of every round."""

    encoder: SentenceTransformer
    records: Sequence[TrainingRecord]

    @property
    def steps(self) -> int:
        """Of all of them."""
        return sum(record.steps for record in self.records)


def train_bi_encoder_on_collection(
    corpus: Corpus,
    retriever: Retriever,
    questions: CollectionQuestions,
    place: str | Path,
    *,
    plan: DensePlan,
    device: str = "auto",
    progress: Progress | None = None,
) -> TrainedBiEncoder:
    """Train a bi-encoder, going on with what an earlier call with the same arguments left.

    Args:
        corpus: the collection; in a chunked one every chunk is a passage of its own.
        retriever: BM25, which the first negatives are from.
        questions: of it, see `retgen.train.questions.collection_questions`; those of ``dev`` are measured meanwhile,
            among the candidates of all of them.
        place: a folder for checkpoints. It is the caller's to remove once the model is saved.
        plan: of the training.
        device: ``auto``, ``cpu``, ``cuda``…
        progress: told of each step.

    Raises:
        UsageError: no training question has a relevant passage.
        MismatchError: ``place`` holds the checkpoints of another training.
        LockedError: another process trains there.
    """
    place = Path(place)
    report = progress or (lambda _what, _done, _total, _text: None)
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.resolve()):
        agree(place, corpus, questions, plan)
        report("Find hard negatives", 0, 0, "")
        candidates = bm25_negatives(questions.train, retriever, corpus, plan.depth)
        dev = None
        if questions.dev:
            dev = DevPool.of(bm25_negatives(questions.dev, retriever, corpus, plan.depth), corpus)
        encoder = begun_once(
            place / "built",
            plan.source,
            corpus,
            questions.train,
            seed=plan.training.seed,
            device=device,
            pooling=plan.pooling,
            similarity=plan.similarity,
            towers=plan.towers,
            max_length=plan.max_length or None,
        )
        records = [
            train_bi_encoder(
                encoder,
                candidates,
                corpus,
                place / "dpr",
                options=plan.training,
                dev=dev,
                progress=lambda step, steps, said: report("Train", step, steps, said),
            )
        ]
        if plan.rounds:
            rounds = train_ance(
                encoder,
                questions.train,
                corpus,
                place / "ance",
                rounds=plan.rounds,
                options=plan.of_a_round(),
                depth=plan.own_depth,
                index=plan.index,
                dev=dev,
                progress=lambda what, done, total, said: report(what[:1].upper() + what[1:], done, total, said),
            )
            records += [one.record for one in rounds]
    return TrainedBiEncoder(encoder, records)


def dense_gains(
    encoder: SentenceTransformer, corpus: Corpus, retriever: Retriever, held_out: Sequence[Triplet], most: int
) -> dict[str, Gain]:
    """Measure → what a bi-encoder gains over a first stage, both over the whole corpus, with a paired test.

    Args:
        encoder: that is measured.
        corpus: the collection.
        retriever: the first stage.
        held_out: questions; those without relevant documents are left out.
        most: of them at most, a sample by the hash of their ids. 0 measures nothing.
    """
    judged = [triplet for triplet in held_out if triplet.doc_ids]
    judged.sort(key=lambda triplet: zlib.crc32(f"held out {triplet.query.id}".encode()))
    judged = judged[:most]
    if not judged:
        return {}
    queries = [triplet.query for triplet in judged]
    qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in judged}
    after = DenseRetriever.build(corpus, encoder).search(queries, 10)
    return run_gains(retriever.search(queries, 10), after, qrels)


def begun_once(
    built: Path,
    source: str,
    corpus: Corpus,
    questions: Sequence[Triplet],
    *,
    seed: int,
    device: str = "auto",
    **options: Any,
) -> SentenceTransformer:
    """A bi-encoder to begin with, made at the first call and kept: a tokenizer trained twice is not always the same.

    Args:
        built: the folder it is kept in.
        source: see `retgen.dense.fresh.begin_encoder`.
        corpus: whose texts a ``scratch:`` source learns its tokens from.
        questions: likewise.
        seed: of random weights.
        device: ``auto``, ``cpu``, ``cuda``…
        options: of `begin_encoder`.
    """
    where = str(pick_device(device))
    if not built.exists():
        torch.manual_seed(seed)
        texts = (*(document.contents for document in corpus), *(triplet.query.text for triplet in questions))
        save_encoder(begin_encoder(source, texts=texts, device=where, **options), built)
    return load_encoder(str(built), where)
