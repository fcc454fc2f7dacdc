"""Training of a query generator p(query | passage): gold passage → query, on `transformers.Trainer`, resumable."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from retgen.errors import UsageError
from retgen.models.passage_encoder import gathered
from retgen.models.prompt_format import PromptFormat
from retgen.models.query_generator import QueryGenerator
from retgen.models.query_model import QueryModel
from retgen.models.warm_generator import QueryGeneratorModel
from retgen.train.option_checks import check_options
from retgen.train.parameters import decayed_groups
from retgen.train.query_batches import PairCollator, PairDataset, PassageQuery, passage_key
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

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

FRESH = ("decoder.", "pointer.", "lm_head.bias")
"""What a `QueryGeneratorModel` does not take from its encoder, by the beginnings of its names."""


@dataclass(frozen=True, slots=True)
class GeneratorTraining:
    """Options of a training. The defaults are the paper's for open-domain question answering.

    Args:
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the pairs.
        batch_size: pairs a step on each device.
        learning_rate: of weights that were trained before.
        fresh_learning_rate: of weights that start at random beside a BERT-like encoder. None is the same.
        warmup_steps: linear warm-up, then the rate falls linearly to 0; below 1, a share of all steps.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: gradient clipping.
        group_passages: put the queries of a passage in one batch, so that it is encoded once. Such batches are less
            mixed. Either way a passage that occurs twice in a batch is encoded once.
        eval_steps: dev pairs are measured every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev log-likelihood, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        seed: of everything random.

    Reference: JPR, "Implementation details": batch 64, 5e-5, 2 epochs, warm-up ratio 0.1 (its BEIR model: 3 epochs on
        MS MARCO pairs, batch 16, no warm-up).
    """

    max_steps: int = 0
    epochs: float = 2.0
    batch_size: int = 64
    learning_rate: float = 5e-5
    fresh_learning_rate: float | None = None
    warmup_steps: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    group_passages: bool = True
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self, not_negative=("weight_decay",), rates=("learning_rate", "fresh_learning_rate"))


def train_query_generator(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PassageQuery],
    folder: str | Path,
    *,
    options: GeneratorTraining | None = None,
    preset: str | PromptFormat = "jpr",
    dev: Sequence[PassageQuery] | None = None,
    progress: Progress | None = None,
) -> TrainingRecord:
    """Train an encoder-decoder in place to write a query for its passage.

    The loss is the mean over a batch's target tokens, as transformers' encoder-decoders reduce it.

    Args:
        model: of `retgen.models.generator_sources.load_generator`, on its device.
        tokenizer: its own.
        pairs: gold passages with a query each; a passage may occur with several queries.
        folder: keeps checkpoints and TensorBoard's logs. A folder with a finished checkpoint is resumed from it; a
            resumed run ends with the very weights of an uninterrupted one (bitwise on a CPU with as many threads).
        options: by default the paper's.
        preset: how passages and queries are written: a `PromptFormat` or the name of one. Ask the model by the same.
        dev: pairs whose `log_likelihood_per_token` is measured as training goes on.
        progress: called with (step, steps, what was last logged).

    Raises:
        UsageError: there are no pairs, or options that contradict each other.
        MismatchError: the folder keeps the checkpoints of a training with other pairs, options or model.

    Reference: JPR, section 2.2.
    """
    options = options or GeneratorTraining()
    if not pairs:
        raise UsageError("there is nothing to train on", mend="Give at least one passage with a query")
    require_dev_for_best(options, evaluates=bool(dev))
    model.train(False)
    generator = QueryGenerator(model, tokenizer, preset)

    def build(place: Path, callbacks: list[TrainerCallback]) -> ResumableTrainer:
        return _trainer(generator, pairs, place, options, dev, callbacks)

    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    read = ((passage.id, passage.title, passage.text, query) for passage, query in pairs)
    return train_resumably(
        model,
        folder,
        build,
        options=options,
        training=fingerprint((options, generator.format, weight_shapes(model), trained), read),
        device=model.device,
        progress=progress,
        shown=("loss", "perplexity"),
    )


def pair_loss(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    rows: Tensor,
    decoder_input_ids: Tensor,
    labels: Tensor,
    *,
    forward: nn.Module | None = None,
) -> Tensor:
    """Mean cross-entropy of target tokens, each passage encoded once for all its queries.

    Args:
        model: the encoder-decoder itself.
        input_ids: (P, L) int64; the passages.
        attention_mask: (P, L).
        rows: (R,) int64; the passage of each query.
        decoder_input_ids: (R, T) int64; what the decoder reads.
        labels: (R, T) int64; what it is to write, -100 where nothing is asked for.
        forward: the model in a wrapper for several devices, where there is one.
    """
    states = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
    call: Any = model if forward is None else forward
    loss: Tensor = call(
        encoder_outputs=gathered(states, rows),
        attention_mask=attention_mask.index_select(0, rows),
        decoder_input_ids=decoder_input_ids,
        labels=labels,
    ).loss
    return loss


def log_likelihood_per_token(generator: QueryModel, pairs: Sequence[PassageQuery]) -> float:
    """Mean of log p(token | passage, tokens before it) over all target tokens of the pairs, EOS included: nats, ≤ 0.

    Its negative's exponential is the perplexity. Values of models with other tokenizers cannot be compared.

    Args:
        generator: in evaluation mode.
        pairs: passages with a query each.

    Raises:
        UsageError: there are no pairs.
    """
    if not pairs:
        raise UsageError("there are no queries to measure by", mend="Give at least one passage with a query")
    numbers = {key: number for number, key in enumerate(dict.fromkeys(passage_key(passage) for passage, _ in pairs))}
    passages = {numbers[passage_key(passage)]: passage for passage, _ in pairs}
    states = generator.encode([passages[number] for number in range(len(numbers))])
    asked = [(number, numbers[passage_key(passage)]) for number, (passage, _) in enumerate(pairs)]
    scored = generator.token_log_likelihoods(states, [query for _, query in pairs], asked)
    total = sum(float(values.double().sum()) for values in scored)
    return total / max(1, sum(len(values) for values in scored))


class _PairTrainer(ResumableTrainer):
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        whole: Any = self.trained
        # What Trainer casts by itself is the forward of the model; here the encoder is called beside it.
        with self.accelerator.autocast():
            loss = pair_loss(whole, **inputs, forward=model)
        return (loss, {"loss": loss}) if return_outputs else loss


def _trainer(
    generator: QueryGenerator,
    pairs: Sequence[PassageQuery],
    folder: Path,
    options: GeneratorTraining,
    dev: Sequence[PassageQuery] | None,
    callbacks: list[TrainerCallback],
) -> ResumableTrainer:
    model = generator.model
    # Whole passages by their length, so that those of one group have the same.
    lengths = [len(passage.contents) for passage, _ in pairs]
    known: dict[Hashable, int] = {}
    groups = [known.setdefault(passage_key(passage), len(known)) for passage, _ in pairs]
    sampler = LengthBucketSampler(
        lengths, options.batch_size, options.seed, groups=groups if options.group_passages else None
    )
    usual = options.learning_rate
    fresh = usual if options.fresh_learning_rate is None else options.fresh_learning_rate
    ours = isinstance(model, QueryGeneratorModel)

    def rate(name: str, parameter: nn.Parameter) -> float:
        return fresh if ours and name.startswith(FRESH) else usual

    return _PairTrainer(
        model,
        folder,
        options,
        device=model.device,
        dataset=PairDataset(pairs),
        collator=PairCollator(generator),
        sampler=sampler,
        groups=lambda: decayed_groups(model, rate, options.weight_decay),
        callbacks=[FollowEpochs(sampler), *callbacks],
        measure=None if not dev else lambda: _measured(generator, dev),
    )


def _measured(generator: QueryGenerator, dev: Sequence[PassageQuery]) -> dict[str, float]:
    training = generator.model.training
    generator.model.train(False)
    try:
        found = log_likelihood_per_token(generator, dev)
    finally:
        generator.model.train(training)
    return {"log_likelihood": found, "perplexity": math.exp(-found), "score": found}
