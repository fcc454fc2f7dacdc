"""What every training here shares: `transformers.Trainer` without its printing, and going on where it was stopped.

A training is described by a hash (`fingerprint`) of all that decides what it ends with, so that a folder with the
checkpoints of another one is refused. What is trained, on what, and what a dev set measures are each family's own.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    set_seed,
)

from retgen.devices import prepared_cpu
from retgen.errors import ArtefactError, MismatchError
from retgen.models.quiet import no_progress_bars
from retgen.train.arguments import TrainingOptions, require_dev_for_best, training_arguments
from retgen.train.checkpoints import Checkpoint, MarkFinished, last_finished

if TYPE_CHECKING:
    from torch.utils.data import Dataset, Sampler

Progress = Callable[[int, int, str], None]
"""Called with step, steps and what was last logged."""
Measure = Callable[[], Mapping[str, float]]
"""Measures a dev set; ``score``, higher is better, chooses the best checkpoint."""
ParameterGroups = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a stage did: its steps, seconds, and the logged curve (one dict a logging step, as Trainer's history)."""

    steps: int
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)


def train_resumably(
    model: nn.Module,
    folder: str | Path,
    build: Callable[[Path, list[TrainerCallback]], ResumableTrainer],
    *,
    options: TrainingOptions,
    training: str,
    device: torch.device,
    progress: Progress | None = None,
    shown: Sequence[str] = ("loss",),
) -> TrainingRecord:
    """Train a model in place, going on from the folder's last finished checkpoint where it has one.

    A resumed run ends with the very weights of an uninterrupted one (bitwise on a CPU with as many threads).

    Args:
        model: what the trainer that ``build`` makes will train.
        folder: keeps checkpoints and TensorBoard's logs.
        build: makes the trainer for the folder, with these callbacks; called only if a step is left to do.
        options: of the training.
        training: its `fingerprint`.
        device: where the model is.
        progress: called after every step.
        shown: what is logged that ``progress`` is told, by name.

    Raises:
        MismatchError: the folder keeps the checkpoints of another training.
        ArtefactError: a checkpoint lacks weights of the model.
    """
    folder = Path(folder).resolve()
    resumed = last_finished(folder) if folder.is_dir() else None
    if resumed is not None and resumed.training != training:
        raise MismatchError(
            "this folder keeps the checkpoints of another training: other examples, options or model",
            where=folder,
            mend="Give another folder, or delete this one",
        )
    if resumed is not None and resumed.last:
        return _ended(model, resumed, keep_best=options.keep_best)
    set_seed(options.seed)
    before = resumed.seconds if resumed is not None else 0.0
    callbacks: list[TrainerCallback] = [MarkFinished(training, before)]
    if progress is not None:
        callbacks.append(_Report(progress, shown))
    with prepared_cpu() if device.type == "cpu" else contextlib.nullcontext(), no_progress_bars():
        trainer = build(folder, callbacks)
        try:
            output = trainer.train(resume_from_checkpoint=str(resumed.path) if resumed is not None else None)
        finally:
            model.train(False)
    seconds = before + float(output.metrics["train_runtime"])
    return TrainingRecord(int(output.global_step), seconds, _curve(trainer.state))


def fingerprint(decisive: object, examples: Iterable[object]) -> str:
    """A hash of everything that decides what a training ends with, but for its first weights.

    Args:
        decisive: options, lengths and the like; counts by its ``repr``, so plain values and dataclasses.
        examples: what is trained on, in order, likewise.
    """
    digest = hashlib.sha256(repr(decisive).encode("utf-8", "surrogatepass"))
    for example in examples:
        digest.update(repr(example).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def weight_shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a model's weights, for its training's `fingerprint`."""
    return [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]


class ResumableTrainer(Trainer):
    """Trainer with an order of examples, parameter groups and dev measures of our own. It prints nothing.

    Args:
        model: a `PreTrainedModel`, or any module whose forward returns a mapping with ``loss``.
        folder: for checkpoints.
        options: of the training.
        device: where the model is.
        dataset: of examples.
        collator: makes a batch of them.
        sampler: their order; it must follow from seed and epoch alone (`retgen.train.sampling`).
        groups: gives AdamW's parameter groups.
        callbacks: `train_resumably`'s, and others.
        measure: of a dev set; None leaves evaluation out.
        accumulation_steps: batches that make one optimiser step.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        options: TrainingOptions,
        *,
        device: torch.device,
        dataset: Dataset[Any],
        collator: Callable[[Sequence[Any]], dict[str, Any]],
        sampler: Sampler[int],
        groups: ParameterGroups,
        callbacks: Sequence[TrainerCallback],
        measure: Measure | None = None,
        accumulation_steps: int = 1,
    ) -> None:
        self.trained = model
        self.sampler = sampler
        self.groups = groups
        self.measure = measure
        super().__init__(
            model=model,
            args=training_arguments(
                folder, options, device, evaluates=measure is not None, accumulation_steps=accumulation_steps
            ),
            data_collator=collator,
            train_dataset=dataset,
            # Required where there is evaluation, and never read: `measure` has its own data.
            eval_dataset=dataset if measure is not None else None,
            callbacks=list(callbacks),
        )
        self.model_accepts_loss_kwargs = False
        # The library does not print: progress goes to the callback, the curve into the record.
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self.sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the groups."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.groups(), lr=self.args.learning_rate)
        return self.optimizer

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """What the dev set measures, logged."""
        assert self.measure is not None  # evaluation is off without it
        measured = {f"{metric_key_prefix}_{name}": float(value) for name, value in self.measure().items()}
        self.log(measured)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        return measured

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # save_pretrained stores tied weights once; other modules need to be told.
        if state_dict is None and not isinstance(self.trained, PreTrainedModel):
            state_dict = _once_each(self.trained)
        super()._save(output_dir, state_dict)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once, so some of their names are always missing: nothing to warn of.
        missing = set(load_result.missing_keys)
        whole = {name for names in _tied(self.trained) if not names <= missing for name in names}
        wrong = sorted({*missing, *load_result.unexpected_keys} - whole)
        if wrong:
            raise ArtefactError(
                f"a checkpoint lacks weights of this model, or has others, e.g. {wrong[0]}",
                where=self.args.output_dir,
                mend="Delete the folder and train again",
            )


class _Report(TrainerCallback):
    def __init__(self, progress: Progress, shown: Sequence[str]) -> None:
        self.progress = progress
        self.shown = shown
        self.last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        self.last.update({key.removeprefix("eval_"): value for key, value in (logs or {}).items()})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        said = ", ".join(f"{name} {self.last[name]:.3f}" for name in self.shown if name in self.last)
        self.progress(state.global_step, state.max_steps, said)


def _ended(model: nn.Module, checkpoint: Checkpoint, *, keep_best: bool) -> TrainingRecord:
    # Trainer would do one step more, however many were done.
    state = TrainerState.load_from_json(str(checkpoint.path / "trainer_state.json"))
    path = checkpoint.path
    if keep_best and state.best_model_checkpoint is not None:
        path = path.parent / Path(state.best_model_checkpoint).name
    if isinstance(model, PreTrainedModel):
        with no_progress_bars():
            trained = type(model).from_pretrained(path)
        model.load_state_dict(trained.state_dict())
    else:
        load_model(model, path / "model.safetensors")
    return TrainingRecord(state.global_step, checkpoint.seconds, _curve(state))


def _curve(state: TrainerState) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in state.log_history]


def _tied(model: nn.Module) -> list[set[str]]:
    names: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    return [group for group in names.values() if len(group) > 1]


def _once_each(model: nn.Module) -> dict[str, Tensor]:
    left_out = {name for names in _tied(model) for name in sorted(names)[1:]}
    return {name: value.contiguous() for name, value in model.state_dict().items() if name not in left_out}


__all__ = [
    "Measure",
    "Progress",
    "ResumableTrainer",
    "TrainingOptions",
    "TrainingRecord",
    "fingerprint",
    "require_dev_for_best",
    "train_resumably",
    "training_arguments",
    "weight_shapes",
]
