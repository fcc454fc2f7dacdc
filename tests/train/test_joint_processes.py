"""Joint fine-tuning in two processes, as on two GPUs, ends where one process ends with batches twice as large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.joint_processes import run
from tests.train.joint_toy import toy_models

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_train_as_one_would(tmp_path: Path) -> None:
    torch.save(toy_models(), tmp_path / "models.pt")
    run(tmp_path, 2)
    several = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
            "tests.train.joint_processes", str(tmp_path), "1",
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert several.returncode == 0, several.stderr
    (alone, measured), (first, one), (second, other) = (
        torch.load(tmp_path / f"after-{name}.pt") for name in ("2-0", "1-0", "1-1")
    )
    for name, value in first.items():
        assert torch.equal(value, second[name])
        # A softmax does not see its keys' bias: the gradient is rounding, which Adam makes a whole step of.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(value, alone[name], rtol=0, atol=1e-5)
    assert one == other
    assert one == pytest.approx(measured, abs=1e-4)
