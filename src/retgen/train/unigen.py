"""UniGen's training on `transformers.Trainer`: one stage at a time, resumable, with dev questions asked as it goes.

A run of two stages is two calls: pre-training examples first, fine-tuning examples after (see `train.examples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import nn
from transformers import TrainerCallback

from retgen.errors import UsageError
from retgen.evaluate import evaluate_answers, evaluate_run
from retgen.generative.inputs import tokenise_inputs
from retgen.generative.unigen import UniGen
from retgen.models.still_encoder import still_encoder
from retgen.train.collate import UniGenCollator
from retgen.train.epochs import EpochDataset
from retgen.train.examples import UniGenExample
from retgen.train.options import UniGenTraining
from retgen.train.parameters import frozen_layers, parameter_groups
from retgen.train.resumable import (
    Progress,
    ResumableTrainer,
    TrainingRecord,
    fingerprint,
    require_dev_for_best,
    train_resumably,
    weight_shapes,
)
from retgen.train.sampling import FollowEpochs, LengthBucketSampler
from retgen.types import Query, Triplet


@dataclass(frozen=True, slots=True)
class DevSet:
    """Dev questions, with the inputs the model is to read, their answers and relevant documents."""

    queries: Sequence[Query]
    triplets: Sequence[Triplet]

    def measure(self, system: UniGen) -> dict[str, float]:
        """MRR@10, R@1, R@10, EM and F1 of a system on these questions, 0 to 1, and the mean of MRR@10 and EM.

        Without EM and F1, and MRR@10 alone, of a system that writes no answers.
        """
        if system.model.config.answers:
            run, answers = system.search_and_answer(self.queries, k=10)
        else:
            run, answers = system.search(self.queries, k=10), []
        qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in self.triplets}
        answered = system.model.config.answers
        gold = {triplet.query.id: triplet.answers for triplet in self.triplets if triplet.answers and answered}
        values = dict(evaluate_run(run, qrels, ["RR@10", "R@1", "R@10"]).means)
        values["MRR@10"] = values.pop("RR@10")
        if gold:
            predicted = {answer.query_id: answer.text for answer in answers}
            values.update(evaluate_answers(predicted, gold, ("EM", "F1")).means)
        values["score"] = (values["MRR@10"] + values["EM"]) / 2 if gold else values["MRR@10"]
        return values


def train_unigen(
    system: UniGen,
    examples: Sequence[UniGenExample],
    folder: str | Path,
    *,
    options: UniGenTraining | None = None,
    dev: DevSet | None = None,
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train a system's model in place.

    Args:
        system: model, tokenizer and docids; its settings say how long inputs and answers may be.
        examples: of this stage.
        folder: keeps checkpoints and TensorBoard's logs. A folder with a finished checkpoint is resumed from it; a
            resumed run ends with the very weights of an uninterrupted one (bitwise on a CPU with as many threads).
        dev: asked as training goes on, searched and answered as a user's questions would be.
        progress: called with (step, steps, what was last logged).

    Raises:
        UsageError: there are no examples, or options that contradict each other or the model.
        MismatchError: the folder keeps the checkpoints of a training with other examples, options or model.
    """
    options = options or UniGenTraining()
    if not examples:
        raise UsageError("there is nothing to train on", mend="Give at least one example with a docid or an answer")
    require_dev_for_best(options, evaluates=dev is not None)
    if options.consistency and not any(part.p > 0 for part in system.model.modules() if isinstance(part, nn.Dropout)):
        raise UsageError(
            "a consistency loss compares readings with other dropout, and this model has none",
            mend="Build the model with dropout=0.1, or leave consistency out",
        )
    lengths = (system.settings.max_input_tokens, system.settings.max_answer_tokens)

    def build(place: Path, callbacks: list[TrainerCallback]) -> ResumableTrainer:
        return _trainer(system, examples, place, options, dev, callbacks)

    with frozen_layers(system.model, options.frozen_layers), still_encoder(system.model) as still:
        if still is not None and not options.shuffle_passages:
            texts = [example.input_text for example in examples]
            still.read(item.ids for item in tokenise_inputs(system.tokenizer, texts, lengths[0]))
        return train_resumably(
            system.model,
            folder,
            build,
            options=options,
            training=fingerprint((options, lengths, weight_shapes(system.model)), examples),
            device=system.device,
            progress=progress,
            shown=("loss", "MRR@10", "EM"),
        )


def _trainer(
    system: UniGen,
    examples: Sequence[UniGenExample],
    folder: Path,
    options: UniGenTraining,
    dev: DevSet | None,
    callbacks: list[TrainerCallback],
) -> ResumableTrainer:
    collator = UniGenCollator(
        system.tokenizer,
        eos_token_id=cast(int, system.model.config.eos_token_id),
        max_input_tokens=system.settings.max_input_tokens,
        max_answer_tokens=system.settings.max_answer_tokens,
        shuffle=options.shuffle_passages,
        seed=options.seed,
        consistency=options.consistency,
    )
    dataset = EpochDataset(examples)
    sampler = LengthBucketSampler([len(example.input_text) for example in examples], options.batch_size, options.seed)
    return ResumableTrainer(
        system.model,
        folder,
        options,
        device=system.device,
        dataset=dataset,
        collator=collator,
        sampler=sampler,
        groups=lambda: parameter_groups(system.model, options),
        callbacks=[FollowEpochs(dataset, sampler), *callbacks],
        measure=None if dev is None else lambda: dev.measure(system),
    )


__all__ = ["DevSet", "TrainingRecord", "UniGenTraining", "parameter_groups", "train_unigen"]
