"""Training of a cross-encoder: noise contrastive estimation over first-stage candidates, as JPR's BERT-FT.

The loop and the losses are sentence-transformers'; the order of the data, the dev measures and going on where a
training was stopped are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from retgen.errors import MissingExtraError, UsageError
from retgen.evaluate import evaluate_run
from retgen.train.arguments import require_dev_for_best
from retgen.train.candidates import LabelledCandidates
from retgen.train.freezing import frozen
from retgen.train.option_checks import check_options
from retgen.train.pair_stream import BINARY, RANKING, PairStream
from retgen.train.resumable import Progress, TrainingRecord, fingerprint, train_resumably, weight_shapes
from retgen.types import DocumentSource, Qrels, Query, Run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from retgen.rerank.cross_encoder import CrossEncoder

MEASURES = ("Success@1", "RR@10")


@dataclass(frozen=True, slots=True)
class CrossEncoderTraining:
    """Options of a cross-encoder's training. The defaults are the paper's.

    Args:
        objective: ``binary`` (every pair relevant or not, the paper's) or ``ranking`` (cross-entropy of the softmax
            over a question's candidates).
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the questions.
        batch_size: pairs a step on each device.
        negatives: of a question at most, drawn anew for every epoch; None takes all. Fewer train faster.
        learning_rate: of AdamW.
        warmup_steps: linear warm-up, then linear decay to 0; below 1, a share of all steps.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: gradient clipping.
        frozen_layers: lowest layers that keep their weights; the embeddings then do too.
        eval_steps: the dev set is measured every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev RR@10, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        attn_implementation: while training: ``eager``, ``sdpa``, …; None leaves the model's.
        seed: of everything random.
    """

    objective: str = BINARY
    max_steps: int = 0
    epochs: float = 2.0
    batch_size: int = 128
    negatives: int | None = None
    learning_rate: float = 5e-5
    warmup_steps: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    frozen_layers: int = 0
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    attn_implementation: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in (BINARY, RANKING):
            raise UsageError(f"unknown objective {self.objective!r}", mend=f"Choose {BINARY} or {RANKING}")
        check_options(self, not_negative=("frozen_layers", "weight_decay"), rates=("learning_rate",))
        if self.negatives is not None and self.negatives < 1:
            raise UsageError(f"a question needs at least one negative; got negatives={self.negatives}")


@dataclass(frozen=True, slots=True)
class DevCandidates:
    """Dev questions with their first stage and judgements. Questions that the first stage fails count too.

    Args:
        queries: each in the run.
        run: what is re-ranked.
        qrels: the judgements.
        documents: the corpus of the run.
    """

    queries: Sequence[Query]
    run: Run
    qrels: Qrels
    documents: DocumentSource

    @classmethod
    def from_candidates(cls, candidates: Iterable[LabelledCandidates], documents: DocumentSource) -> DevCandidates:
        """Labelled candidates as a dev set; their order is the first stage's."""
        kept = list(candidates)
        run = Run(
            [one.query.id for one in kept],
            [one.passages for one in kept],
            [[-float(rank) for rank in range(len(one))] for one in kept],
        )
        qrels = {one.query.id: dict(zip(one.passages, one.labels, strict=True)) for one in kept}
        return cls([one.query for one in kept], run, qrels, documents)

    def measure(self, reranker: CrossEncoder) -> dict[str, float]:
        """Success@1 and RR@10 of the re-ranked candidates, 0 to 1; ``score``, which the best is chosen by, is RR@10."""
        means: Mapping[str, float] = evaluate_run(
            reranker.rerank(self.queries, self.run, self.documents), self.qrels, MEASURES
        ).means
        return {**{name: means[name] for name in MEASURES}, "score": means["RR@10"]}


def train_cross_encoder(
    reranker: CrossEncoder,
    candidates: Iterable[LabelledCandidates],
    documents: DocumentSource,
    folder: str | Path,
    *,
    options: CrossEncoderTraining | None = None,
    dev: DevCandidates | None = None,
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train a cross-encoder's model in place.

    Args:
        reranker: with weights in fp32; it says how long a pair may be.
        candidates: of the training questions, see `retgen.train.candidates`; all with a relevant candidate.
        documents: gives their passages.
        folder: keeps checkpoints and TensorBoard's logs. A folder with a finished checkpoint is resumed from it; a
            resumed run ends with the very weights of an uninterrupted one (bitwise on a CPU with as many threads).
        options: of the training.
        dev: measured as training goes on.
        progress: called with (step, steps, what was last logged).

    Raises:
        UsageError: there is nothing to train on, a question without a relevant candidate, a trunk that is not in fp32,
            or options that contradict each other.
        UnknownDocumentError: a candidate is not among the documents.
        MismatchError: the folder keeps the checkpoints of a training with other candidates, options or model.
        MissingExtraError: sentence-transformers, datasets or accelerate is not installed.

    Reference:
        Ma and Collins, "Noise Contrastive Estimation and Negative Sampling for Conditional Models", 2018, for both
        objectives; JPR, "Training Details", for the numbers.
    """
    options = options or CrossEncoderTraining()
    kept = list(candidates)
    _check(reranker, kept)
    require_dev_for_best(options, evaluates=dev is not None)
    require_extras()
    decisive = (
        options,
        reranker.max_length,
        reranker.inputs.query_share,
        getattr(documents, "fingerprint", None),
        weight_shapes(reranker.model),
    )

    def build(place: Path, callbacks: list[TrainerCallback]) -> Any:
        from retgen.train.pair_trainer import PairTrainer

        return PairTrainer(
            reranker,
            PairStream(
                kept,
                documents,
                objective=options.objective,
                batch_size=options.batch_size,
                negatives=options.negatives,
                epochs=options.epochs,
                max_steps=options.max_steps,
                seed=options.seed,
            ),
            place,
            options,
            weight_decay=options.weight_decay,
            callbacks=callbacks,
            measure=None if dev is None else lambda: dev.measure(reranker),
        )

    with frozen_layers(reranker.model, options.frozen_layers), _attention(reranker.model, options.attn_implementation):
        return train_resumably(
            reranker.model,
            folder,
            build,
            options=options,
            training=fingerprint(decisive, kept),
            device=reranker.device,
            progress=progress,
            shown=("loss", *MEASURES),
        )


def require_extras() -> None:
    """What training a cross-encoder needs beyond the base install.

    Raises:
        MissingExtraError: a package is not installed.
    """
    for package, extra in (("sentence_transformers", "dense"), ("accelerate", "train"), ("datasets", "train")):
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), extra)


def frozen_layers(model: PreTrainedModel, layers: int) -> AbstractContextManager[None]:
    """Within it, the embeddings and the lowest ``layers`` layers keep their weights.

    Raises:
        UsageError: the model has fewer layers, or layers that are not found.
    """
    return frozen(lowest_layers(model, layers) if layers > 0 else [])


def lowest_layers(model: PreTrainedModel, layers: int) -> list[nn.Module]:
    """The embeddings and the lowest ``layers`` layers of a transformer.

    Raises:
        UsageError: it has fewer layers, or layers that are not found.
    """
    trunk: Any = model.base_model
    has = int(getattr(model.config, "num_hidden_layers", 0))
    stacks = [part for part in trunk.modules() if isinstance(part, nn.ModuleList) and len(part) == has]
    embeddings = getattr(trunk, "embeddings", None) or trunk.get_input_embeddings()
    if not stacks or not isinstance(embeddings, nn.Module):
        raise UsageError(
            f"do not know where the layers of a {type(model).__name__} are", mend="Train it with frozen_layers=0"
        )
    if layers > has:
        raise UsageError(f"cannot freeze {layers} layers of a model that has {has}")
    return [embeddings, *stacks[0][:layers]]


@contextmanager
def _attention(model: PreTrainedModel, implementation: str | None) -> Iterator[None]:
    usual = model.config._attn_implementation
    if implementation is not None:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        if implementation is not None and usual is not None:
            model.set_attn_implementation(usual)


def _check(reranker: CrossEncoder, candidates: Sequence[LabelledCandidates]) -> None:
    if not candidates:
        raise UsageError(
            "there is nothing to train on", mend="Give at least one question with a relevant candidate among others"
        )
    for question in candidates:
        if not any(question.labels):
            raise UsageError(
                f"question {question.query.id!r} has no relevant candidate",
                mend="Leave such questions out, as the builders of retgen.train.candidates do",
            )
    if reranker.dtype != torch.float32:
        raise UsageError(
            f"a model held in {str(reranker.dtype).removeprefix('torch.')} forgets small steps: it cannot be trained",
            mend='Load it with dtype="fp32"; precision="bf16" computes in bf16 over weights in fp32',
        )
