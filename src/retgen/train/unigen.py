"""UniGen's training on `transformers.Trainer`: one stage at a time, resumable, with dev questions asked as it goes.

A run of two stages is two calls: pre-training examples first, fine-tuning examples after (see `train.examples`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments, set_seed

from retgen.devices import bf16_is_faster, prepare_cpu
from retgen.errors import ArtefactError, MismatchError, UsageError
from retgen.evaluate import evaluate_answers, evaluate_run
from retgen.generative.quiet import no_progress_bars
from retgen.generative.unigen import UniGen
from retgen.train.checkpoints import Checkpoint, MarkFinished, last_finished
from retgen.train.collate import UniGenCollator, UniGenDataset
from retgen.train.examples import UniGenExample
from retgen.train.options import UniGenTraining
from retgen.train.parameters import frozen_layers, parameter_groups
from retgen.train.sampling import FollowEpochs, LengthBucketSampler
from retgen.types import Query, Triplet

if TYPE_CHECKING:
    from torch.utils.data import Sampler

Progress = Callable[[int, int, str], None]
_NEVER = 10**9


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
        MismatchError: the folder keeps the checkpoints of a training with other examples, options or model.
    """
    options = options or UniGenTraining()
    if not examples:
        raise UsageError("there is nothing to train on", mend="Give at least one example with a docid or an answer")
    if options.keep_best and (dev is None or not options.eval_steps):
        raise UsageError("keeping the best checkpoint needs dev questions and eval_steps")
    folder = Path(folder).resolve()
    training = _described(system, examples, options)
    resumed = last_finished(folder) if folder.is_dir() else None
    if resumed is not None and resumed.training != training:
        raise MismatchError(
            "this folder keeps the checkpoints of another training: other examples, options or model",
            where=folder,
            mend="Give another folder, or delete this one",
        )
    if resumed is not None and resumed.last:
        return _ended(system, resumed, options)
    if system.device.type == "cpu":
        prepare_cpu()
    set_seed(options.seed)
    before = resumed.seconds if resumed is not None else 0.0
    callbacks: list[TrainerCallback] = [MarkFinished(training, before)]
    if progress is not None:
        callbacks.append(_Report(progress))
    with frozen_layers(system.model, options.frozen_layers), no_progress_bars():
        trainer = _UniGenTrainer(system, examples, folder, options, dev, callbacks)
        try:
            output = trainer.train(resume_from_checkpoint=str(resumed.path) if resumed is not None else None)
        finally:
            system.model.train(False)
    seconds = before + float(output.metrics["train_runtime"])
    return TrainingRecord(int(output.global_step), seconds, _curve(trainer.state))


def _ended(system: UniGen, checkpoint: Checkpoint, options: UniGenTraining) -> TrainingRecord:
    # Trainer would do one step more, however many were done.
    state = TrainerState.load_from_json(str(checkpoint.path / "trainer_state.json"))
    path = checkpoint.path
    if options.keep_best and state.best_model_checkpoint is not None:
        path = path.parent / Path(state.best_model_checkpoint).name
    with no_progress_bars():
        trained = type(system.model).from_pretrained(path)
    system.model.load_state_dict(trained.state_dict())
    return TrainingRecord(state.global_step, checkpoint.seconds, _curve(state))


def _curve(state: TrainerState) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in state.log_history]


def _described(system: UniGen, examples: Sequence[UniGenExample], options: UniGenTraining) -> str:
    """A hash of everything that decides what a training ends with, but for its first weights."""
    shapes = [(name, tuple(parameter.shape)) for name, parameter in system.model.named_parameters()]
    lengths = (system.settings.max_input_tokens, system.settings.max_answer_tokens)
    digest = hashlib.sha256(repr((options, lengths, shapes)).encode())
    for example in examples:
        digest.update(repr(example).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


class _UniGenTrainer(Trainer):
    def __init__(
        self,
        system: UniGen,
        examples: Sequence[UniGenExample],
        folder: Path,
        options: UniGenTraining,
        dev: DevSet | None,
        callbacks: list[TrainerCallback],
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
        dataset = UniGenDataset(examples)
        self.sampler = LengthBucketSampler(
            [len(example.input_text) for example in examples], options.batch_size, options.seed
        )
        super().__init__(
            model=system.model,
            args=_arguments(folder, options, system.device, evaluates=dev is not None),
            data_collator=collator,
            train_dataset=dataset,
            eval_dataset=UniGenDataset(examples[:1]) if dev is not None else None,
            callbacks=[FollowEpochs(dataset, self.sampler), *callbacks],
        )
        self.model_accepts_loss_kwargs = False
        # The library does not print: progress goes to the callback, the curve into the record.
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(
                parameter_groups(self.system.model, self.options), lr=self.options.learning_rate
            )
        return self.optimizer

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once, so one of their names is always missing: nothing to warn of.
        tied = set(self.system.model.all_tied_weights_keys)
        wrong = sorted({*load_result.missing_keys, *load_result.unexpected_keys} - tied)
        if wrong:
            raise ArtefactError(
                f"a checkpoint lacks weights of this model, or has others, e.g. {wrong[0]}",
                where=self.args.output_dir,
                mend="Delete the folder and train again",
            )

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
        self.last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self.last.update({key.removeprefix("eval_"): value for key, value in (logs or {}).items()})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        said = ", ".join(f"{name} {self.last[name]:.3f}" for name in ("loss", "MRR@10", "EM") if name in self.last)
        self.progress(state.global_step, state.max_steps, said)


def _arguments(folder: Path, options: UniGenTraining, device: torch.device, *, evaluates: bool) -> TrainingArguments:
    bf16 = options.precision == "bf16" or (options.precision == "auto" and bf16_is_faster(device.type))
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
        # Trainer evaluates after the last step too, whatever this number.
        eval_steps=options.eval_steps or _NEVER,
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
