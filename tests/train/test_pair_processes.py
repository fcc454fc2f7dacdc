"""A cross-encoder trained in two processes, as on two GPUs, is what one process makes of batches twice as large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.pair_processes import run
from tests.train.toy_pairs import toy_candidates, toy_reranker, weights

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("sentence_transformers")


@pytest.mark.slow
def test_two_processes_train_as_one_would(tmp_path: Path) -> None:
    # A step over all pairs: whatever their order, both ways read the same ones.
    pairs = sum(map(len, toy_candidates()))
    run(tmp_path, pairs)
    several = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
            "tests.train.pair_processes", str(tmp_path), str(pairs // 2),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert several.returncode == 0, several.stderr
    (alone, steps), (first, of_first), (second, of_second) = (
        torch.load(tmp_path / f"after-{name}.pt") for name in (f"{pairs}-0", f"{pairs // 2}-0", f"{pairs // 2}-1")
    )
    assert steps == of_first == of_second == 3
    before = weights(toy_reranker(dropout=0.0))
    assert any(not torch.equal(value, before[name]) for name, value in first.items())
    for name, value in first.items():
        assert torch.equal(value, second[name])
        # A softmax does not see its keys' bias: the gradient is rounding, which Adam makes a whole step of.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(value, alone[name], rtol=0, atol=1e-4)
