"""UniGen's training on `transformers.Trainer`: one stage at a time, resumable, with dev questions asked as it goes.

A run of two stages is two calls: pre-training examples first, fine-tuning examples after (see `train.examples`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from retgen.devices import bf16_is_faster, prepare_cpu
from retgen.errors import UsageError
from retgen.evaluate import evaluate_answers, evaluate_run
from retgen.generative.unigen import UniGen
from retgen.models.copying import CopyHead
from retgen.train.checkpoints import MarkFinished, last_finished
from retgen.train.collate import UniGenCollator, UniGenDataset
from retgen.train.examples import UniGenExample
from retgen.train.sampling import LengthBucketSampler
from retgen.types import Query, Triplet

if TYPE_CHECKING:
    from torch.utils.data import Sampler

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class UniGenTraining:
    """Options of one stage. The defaults are the paper's, but for the batch, which is smaller.

    Args:
        max_steps: optimiser steps; 0 trains for ``epochs``.
        epochs: passes over the examples.
        batch_size: examples a step on each device (the paper: 128 over four).
        learning_rate: of weights that were trained before (all of a T5 checkpoint, a warm start's encoder).
        fresh_learning_rate: of weights that start at random: a warm start's decoders, the heads. None is the same.
        prior_learning_rate: of the copy heads' few scalars, which must move by whole units.
        warmup_steps: linear warm-up; then the rate falls linearly to 0.
        weight_decay: of AdamW; matrices only.
        max_grad_norm: gradient clipping.
        frozen_layers: lowest encoder layers that keep their weights; the embeddings then do too.
        shuffle_passages: share of examples read with their passages in random order.
        eval_steps: dev questions are asked every so many steps; 0 is at the end only.
        save_steps: a checkpoint every so many steps.
        keep_best: end with the checkpoint of the best dev score, not the last.
        precision: ``auto`` (bf16 where it is measured to be faster), ``fp32`` or ``bf16``.
        seed: of everything random.
    """

    max_steps: int = 0
    epochs: float = 3.0
    batch_size: int = 16
    learning_rate: float = 5e-4
    fresh_learning_rate: float | None = None
    prior_learning_rate: float = 1e-2
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    frozen_layers: int = 0
    shuffle_passages: float = 0.0
    eval_steps: int = 0
    save_steps: int = 200
    keep_best: bool = False
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DevSet:
    """Dev questions, with the inputs the model is to read, their answers and relevant documents."""

    queries: Sequence[Query]
    triplets: Sequence[Triplet]

    def measure(self, system: UniGen) -> dict[str, float]:
        """MRR@10, R@1, R@10, EM and F1 of a system on these questions, 0 to 1, and the mean of MRR@10 and EM."""
        run, answers = system.search_and_answer(self.queries, k=10)
        qrels = {triplet.query.id: dict.fromkeys(triplet.doc_ids, 1) for triplet in self.triplets}
        gold = {triplet.query.id: triplet.answers for triplet in self.triplets if triplet.answers}
        values = dict(evaluate_run(run, qrels, ["RR@10", "R@1", "R@10"]).means)
        values["MRR@10"] = values.pop("RR@10")
        if gold:
            predicted = {answer.query_id: answer.text for answer in answers}
            values.update(evaluate_answers(predicted, gold, ("EM", "F1")).means)
        values["score"] = (values["MRR@10"] + values["EM"]) / 2 if gold else values["MRR@10"]
        return values


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a stage did: its steps, seconds, and the logged curve (one dict a logging step, as Trainer's history)."""

    steps: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)


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
        dev: asked as training goes on.
        progress: called with (step, steps, what was last logged).

    Raises:
        UsageError: there are no examples, or options that contradict each other.
    """
    options = options or UniGenTraining()
    if not examples:
        raise UsageError("there is nothing to train on", mend="Give at least one example with a docid or an answer")
    if options.keep_best and (dev is None or not options.eval_steps):
        raise UsageError("keeping the best checkpoint needs dev questions and eval_steps")
    if system.device.type == "cpu":
        prepare_cpu()
    set_seed(options.seed)
    folder = Path(folder)
    _freeze(system, options.frozen_layers)
    trainer = _UniGenTrainer(system, examples, folder, options, dev, progress)
    resume = last_finished(folder) if folder.is_dir() else None
    output = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    for parameter in system.model.parameters():
        parameter.requires_grad_(True)
    system.model.train(False)
    history = [{key: float(value) for key, value in row.items()} for row in trainer.state.log_history]
    return TrainingRecord(int(output.global_step), float(output.metrics["train_runtime"]), history)


def _freeze(system: UniGen, layers: int) -> None:
    if layers < 1:
        return
    model = system.model
    model.shared.weight.requires_grad_(False)
    for encoder in (model.encoder, model.answer_encoder):
        if encoder is None:
            continue
        blocks = _layers(encoder)
        if layers > len(blocks):
            raise UsageError(f"cannot freeze {layers} layers of an encoder that has {len(blocks)}")
        embeddings = getattr(encoder, "embeddings", None)
        for part in [*([embeddings] if embeddings is not None else []), *blocks[:layers]]:
            part.requires_grad_(False)


def _layers(encoder: nn.Module) -> nn.ModuleList:
    for name in ("block", "encoder.layer", "layers", "transformer.layer"):
        try:
            return cast(nn.ModuleList, encoder.get_submodule(name))
        except AttributeError:
            continue
    raise UsageError(
        f"do not know where the layers of a {type(encoder).__name__} are", mend="Train it with frozen_layers=0"
    )


def parameter_groups(model: nn.Module, options: UniGenTraining) -> list[dict[str, Any]]:
    """AdamW's groups: what was trained before, what is fresh, the copy heads' scalars; matrices decay, the rest not."""
    fresh_rate = options.fresh_learning_rate if options.fresh_learning_rate is not None else options.learning_rate
    scalars = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, CopyHead)
        for parameter in (module.rank_bias, module.overlap_weight, module.continuation)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        before = name.startswith(("encoder.", "answer_encoder.", "shared."))
        rate = options.learning_rate if before else fresh_rate
        if id(parameter) in scalars:
            rate = options.prior_learning_rate
        decay = options.weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


class _UniGenTrainer(Trainer):
    def __init__(
        self,
        system: UniGen,
        examples: Sequence[UniGenExample],
        folder: Path,
        options: UniGenTraining,
        dev: DevSet | None,
        progress: Progress | None,
    ) -> None:
        self.system = system
        self.options = options
        self.examples = examples
        self.dev = dev
        config = system.model.config
        collator = UniGenCollator(
            system.tokenizer,
            eos_token_id=cast(int, config.eos_token_id),
            max_input_tokens=system.settings.max_input_tokens,
            max_answer_tokens=system.settings.max_answer_tokens,
            shuffle=options.shuffle_passages,
            seed=options.seed,
        )
        callbacks: list[TrainerCallback] = [MarkFinished()]
        if progress is not None:
            callbacks.append(_Report(progress))
        super().__init__(
            model=system.model,
            args=_arguments(folder, options, system.device, evaluates=dev is not None),
            data_collator=collator,
            train_dataset=UniGenDataset(examples),
            eval_dataset=UniGenDataset(examples[:1]) if dev is not None else None,
            callbacks=callbacks,
        )
        self.model_accepts_loss_kwargs = False
        # The library does not print: progress goes to the callback, the curve into the record.
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(example.input_text) for example in self.examples]
        return LengthBucketSampler(lengths, self.args.train_batch_size, self.options.seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(
                parameter_groups(self.system.model, self.options), lr=self.options.learning_rate
            )
        return self.optimizer

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """The dev questions, searched and answered as a user's would be."""
        assert self.dev is not None  # evaluation is off without them
        measured = {f"{metric_key_prefix}_{name}": value for name, value in self.dev.measure(self.system).items()}
        self.log(measured)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        return measured


class _Report(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.last = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        shown = {key.removeprefix("eval_"): value for key, value in (logs or {}).items()}
        names = ("loss", "MRR@10", "EM")
        self.last = ", ".join(f"{name} {shown[name]:.3f}" for name in names if name in shown) or self.last

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps, self.last)


def _arguments(folder: Path, options: UniGenTraining, device: torch.device, *, evaluates: bool) -> TrainingArguments:
    bf16 = options.precision == "bf16" or (options.precision == "auto" and bf16_is_faster(device.type))
    evaluates = evaluates and options.eval_steps > 0
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=options.max_steps or -1,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup_steps,
        max_grad_norm=options.max_grad_norm,
        logging_steps=min(50, options.eval_steps or 50),
        eval_strategy="steps" if evaluates else "no",
        eval_steps=options.eval_steps or None,
        save_strategy="steps",
        save_steps=options.eval_steps if options.keep_best else options.save_steps,
        save_total_limit=2,
        load_best_model_at_end=options.keep_best,
        metric_for_best_model="eval_score" if options.keep_best else None,
        greater_is_better=True if options.keep_best else None,
        report_to=["tensorboard"] if _has_tensorboard() else [],
        bf16=bf16,
        use_cpu=device.type == "cpu",
        seed=options.seed,
        data_seed=options.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        label_names=["docid_labels", "answer_labels", "answer_spans"],
    )


def _has_tensorboard() -> bool:
    from importlib.util import find_spec

    return find_spec("tensorboard") is not None


__all__ = ["DevSet", "TrainingRecord", "UniGenTraining", "parameter_groups", "train_unigen"]
