"""A training that was stopped anywhere and started again ends with the weights of one that never was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retgen.generative.unigen import UniGen
from retgen.train.checkpoints import last_finished
from retgen.train.unigen import TrainingRecord, UniGenTraining, train_unigen
from tests.train.killed import MODEL, OPTIONS
from tests.train.toy import same_weights, toy_examples, toy_options, toy_system, weights

ROOT = Path(__file__).resolve().parents[2]


class Stop(BaseException):
    """Ends a training the way Ctrl-C does."""


def trained(
    folder: Path, *, stop_at: int | None = None, options: UniGenTraining | None = None
) -> tuple[UniGen, TrainingRecord]:
    def report(step: int, steps: int, last: str) -> None:
        if step == stop_at:
            raise Stop

    system = toy_system(**MODEL)
    record = train_unigen(
        system, toy_examples(system), folder, options=options or toy_options(**OPTIONS), progress=report
    )
    return system, record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    system, _ = trained(folder)
    torch.save(weights(system), folder / "weights.pt")
    return folder


@pytest.fixture(scope="module")
def whole(finished: Path) -> dict[str, Tensor]:
    return torch.load(finished / "weights.pt")


# Epochs have three steps, checkpoints two: first epoch; its end, which is not a checkpoint; a checkpoint within the
# second epoch, just written and one step old; one at an epoch's end; before any checkpoint.
@pytest.mark.parametrize("stop_at", [3, 4, 5, 7, 1])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor], stop_at: int) -> None:
    with pytest.raises(Stop):
        trained(tmp_path, stop_at=stop_at)
    system, record = trained(tmp_path)
    assert record.steps == 10
    assert same_weights(weights(system), whole)


def test_stopped_twice_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    for stop_at in (5, 8):
        with pytest.raises(Stop):
            trained(tmp_path, stop_at=stop_at)
    assert same_weights(weights(trained(tmp_path)[0]), whole)


def test_with_an_encoder_that_keeps_still_too(tmp_path: Path) -> None:
    options = toy_options(**{**OPTIONS, "frozen_layers": 1, "shuffle_passages": 0.0})
    before = toy_system(copy_head=False)
    ends = []
    for stop_at in (None, 5):
        system, folder = toy_system(copy_head=False), tmp_path / str(stop_at)
        examples = toy_examples(system)

        def report(step: int, steps: int, last: str, stop_at: int | None = stop_at) -> None:
            assert system.model.still is not None  # noqa: B023  (called within this turn)
            if step == stop_at:
                raise Stop

        if stop_at is not None:
            with pytest.raises(Stop):
                train_unigen(system, examples, folder, options=options, progress=report)
        train_unigen(system, examples, folder, options=options)
        ends.append(weights(system))
    assert same_weights(*ends)
    kept = [name for name in ends[0] if name.startswith(("encoder.", "shared."))]
    assert kept
    assert all(torch.equal(ends[0][name], weights(before)[name]) for name in kept)
    assert system.model.still is None


@pytest.mark.slow  # most of it the other process' imports
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, whole: dict[str, Tensor]) -> None:
    command = [sys.executable, "-m", "tests.train.killed", str(tmp_path), "7", str(torch.get_num_threads())]
    ended = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    resumed_from = last_finished(tmp_path)
    assert resumed_from is not None
    assert resumed_from.path.name == "checkpoint-6"
    assert same_weights(weights(trained(tmp_path)[0]), whole)


def test_a_finished_training_is_not_trained_further(finished: Path, tmp_path: Path, whole: dict[str, Tensor]) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    steps: list[int] = []
    system = toy_system(**MODEL)
    record = train_unigen(
        system,
        toy_examples(system),
        folder,
        options=toy_options(**OPTIONS),
        progress=lambda step, of, last: steps.append(step),
    )
    assert steps == []
    assert record.steps == 10
    assert same_weights(weights(system), whole)


@pytest.mark.parametrize("torn", ["no mark", "short weights", "no optimiser", "no state"])
def test_unfinished_checkpoints_are_not_resumed_from(
    finished: Path, tmp_path: Path, whole: dict[str, Tensor], torn: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    last = last_finished(folder)
    assert last is not None
    assert last.path.name == "checkpoint-10"
    if torn == "no mark":
        (last.path / "finished").unlink()
    elif torn == "short weights":
        with (last.path / "model.safetensors").open("r+b") as file:
            file.truncate(1000)
    elif torn == "no optimiser":
        (last.path / "optimizer.pt").unlink()
    else:
        (last.path / "trainer_state.json").unlink()
    before = last_finished(folder)
    assert before is not None
    assert before.path.name == "checkpoint-8"
    assert not last.path.exists()
    assert same_weights(weights(trained(folder)[0]), whole)


def test_folders_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-3").write_text("a file")
    assert last_finished(tmp_path) is None
    assert (tmp_path / "checkpoint-best").is_dir()
    assert (tmp_path / "checkpoint-3").is_file()


def test_the_newest_checkpoint_counts_by_number(tmp_path: Path, finished: Path) -> None:
    source = last_finished(finished)
    assert source is not None
    for step in (9, 10, 100, 20):
        shutil.copytree(source.path, tmp_path / f"checkpoint-{step}")
    newest = last_finished(tmp_path)
    assert newest is not None
    assert newest.path.name == "checkpoint-100"


def test_seconds_count_what_was_done_before_a_stop(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    whole = trained(folder)[1].seconds
    again = trained(folder)[1].seconds
    assert 0 < whole <= again
