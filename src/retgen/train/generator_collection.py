"""From a collection, with or without questions, to a trained query generator, and what it makes of held-out questions.

Without questions it trains on pseudo questions made from the documents' own sentences.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retgen.connect.pseudo import PSEUDO_PER_DOCUMENT
from retgen.corpus import Corpus
from retgen.devices import pick_device
from retgen.errors import RetgenError
from retgen.models.generator_sources import load_generator, load_saved_generator, save_generator
from retgen.models.prompt_format import find_format
from retgen.models.query_generator import QueryGenerator
from retgen.models.sources import SCRATCH, WARM
from retgen.store.placing import locked
from retgen.train.collection_plan import agree
from retgen.train.query_batches import PassageQuery
from retgen.train.query_generator import GeneratorTraining, log_likelihood_per_token, train_query_generator
from retgen.train.questions import CollectionQuestions
from retgen.types import Triplet

Progress = Callable[[str, int, int, str], None]
"""Called with what is being done, how much of it is done, of how much, and what was last measured."""
_MEASURED = 500
_MEASURES = 5


@dataclass(frozen=True, slots=True)
class GeneratorPlan:
    """What to train, and how long.

    Args:
        source: of the weights, see `retgen.models.generator_sources.load_generator`.
        preset: how passages and queries are written.
        steps: 300 of 16 are minutes on two cores beside a frozen MiniLM; 0 trains for ``epochs``.
        epochs: passes over the pairs.
        batch_size: pairs a step.
        learning_rate: of weights trained before, and of all of ``scratch:``; None takes one that suits the source (the
            paper's for a checkpoint).
        fresh_learning_rate: of a decoder that starts at random beside a trained encoder; None takes one that suits it.
        copy_head: mix the passage's tokens into the output; None is as the source has it (``warm:`` has one). Not in
            the paper.
        frozen_encoder: train the fresh decoder only; None is so for ``warm:``, where minutes of training do little for
            the encoder and cost several times as much with it.
        pseudo_per_document: pseudo questions of a document, at most.
        save_steps: between checkpoints.
        seed: of everything random.
    """

    source: str
    preset: str = "jpr"
    steps: int = 300
    epochs: float = 2.0
    batch_size: int = 16
    learning_rate: float | None = None
    fresh_learning_rate: float | None = None
    copy_head: bool | None = None
    frozen_encoder: bool | None = None
    pseudo_per_document: int = PSEUDO_PER_DOCUMENT
    save_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        find_format(self.preset)
        self.training()

    def model_options(self) -> dict[str, Any]:
        """For `load_generator`."""
        chosen = {"copy_head": self.copy_head, "frozen_encoder": self.frozen_encoder}
        if self.frozen_encoder is None and self.source.startswith(WARM):
            chosen["frozen_encoder"] = True
        return {name: value for name, value in chosen.items() if value is not None}

    def training(self) -> GeneratorTraining:
        """The options of the training."""
        warm, scratch = self.source.startswith(WARM), self.source.startswith(SCRATCH)
        usual = 2e-4 if warm else 1e-3 if scratch else 5e-5
        fresh = 1e-3 if warm else None
        return GeneratorTraining(
            max_steps=self.steps,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=usual if self.learning_rate is None else self.learning_rate,
            fresh_learning_rate=fresh if self.fresh_learning_rate is None else self.fresh_learning_rate,
            eval_steps=max(1, self.steps // _MEASURES) if self.steps else 0,
            save_steps=self.save_steps,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class TrainedGenerator:
    """A generator, and the mean log-likelihood of a token of held-out questions: nats, ≤ 0.

    Args:
        generator: trained, in evaluation mode.
        steps: that were done.
        seconds: that they took.
        before: training, or None where nothing was held out.
        after: it.
        held_out: how many questions with a passage each were measured.
    """

    generator: QueryGenerator
    steps: int
    seconds: float
    before: float | None
    after: float | None
    held_out: int

    @property
    def perplexities(self) -> tuple[float, float] | None:
        """Before and after training: how many tokens the model is in doubt between, ≥ 1. Lower is better."""
        if self.before is None or self.after is None:
            return None
        return math.exp(-self.before), math.exp(-self.after)


def passage_queries(triplets: Sequence[Triplet], corpus: Corpus) -> list[PassageQuery]:
    """Every question with each of its relevant passages; questions without one are left out."""
    return [(corpus[doc_id], triplet.query.text) for triplet in triplets for doc_id in triplet.doc_ids]


def train_generator_on_collection(
    corpus: Corpus,
    questions: CollectionQuestions,
    place: str | Path,
    *,
    plan: GeneratorPlan,
    device: str = "auto",
    progress: Progress | None = None,
) -> TrainedGenerator:
    """Train a generator on a collection's questions, resuming what an earlier call with the same arguments left.

    Args:
        corpus: the collection; in a chunked one every chunk is a passage of its own.
        questions: see `retgen.train.questions.collection_questions`. Those of ``dev`` are measured meanwhile; of
            ``held_out`` at most 500 pairs, by the hash of their questions, before and after.
        place: a folder for checkpoints. It is the caller's to remove once the generator is saved.
        plan: what to train.
        device: ``auto``, ``cpu``, ``cuda``…
        progress: told of each step.

    Raises:
        RetgenError: no training question has a relevant document.
        MismatchError: ``place`` holds the checkpoints of another training.
        LockedError: another process trains there.
    """
    place = Path(place)
    report = progress or (lambda _what, _done, _total, _text: None)
    pairs = passage_queries(questions.train, corpus)
    if not pairs:
        raise RetgenError(
            "no training question has a relevant document: there is no passage that it could be written from",
            mend="Give questions with doc_ids",
        )
    held_out = sorted(questions.held_out, key=lambda triplet: zlib.crc32(triplet.query.id.encode()))
    measured = passage_queries(held_out, corpus)[:_MEASURED]
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.resolve()):
        agree(place, corpus, questions, plan)
        # Kept, because a tokenizer that is trained twice is not always the same twice.
        built = place / "built"
        if not built.exists():
            report("building the model", 0, 0, plan.source)
            torch.manual_seed(plan.seed)
            texts = [*(document.contents for document in corpus), *(triplet.query.text for triplet in questions.train)]
            save_generator(*load_generator(plan.source, texts=texts, **plan.model_options()), built)
        loaded, tokenizer = load_saved_generator(built)
        model: Any = loaded
        model.to(device=pick_device(device), dtype=torch.float32)
        generator = QueryGenerator(model, tokenizer, plan.preset)
        before = log_likelihood_per_token(generator, measured) if measured else None
        record = train_query_generator(
            model,
            tokenizer,
            pairs,
            place / "training",
            options=plan.training(),
            preset=plan.preset,
            dev=passage_queries(questions.dev, corpus),
            progress=lambda done, total, text: report("training", done, total, text),
        )
        after = log_likelihood_per_token(generator, measured) if measured else None
    return TrainedGenerator(generator, record.steps, record.seconds, before, after, len(measured))
