"""Every training's options are held to the same ranges."""

from __future__ import annotations

from typing import Any

import pytest

from retgen.errors import UsageError
from retgen.train.bi_encoder import BiEncoderTraining
from retgen.train.cross_encoder import CrossEncoderTraining
from retgen.train.joint_options import JointTraining
from retgen.train.options import UniGenTraining
from retgen.train.query_generator import GeneratorTraining

ALL: list[Any] = [BiEncoderTraining, CrossEncoderTraining, GeneratorTraining, JointTraining, UniGenTraining]


@pytest.mark.parametrize("options", ALL)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"save_steps": 0}, "save_steps must be at least 1"),
        ({"max_steps": -1}, "max_steps cannot be negative"),
        ({"warmup_steps": float("nan")}, "warmup_steps cannot be negative, but is nan"),
        ({"max_steps": 0, "epochs": 0.0}, "needs steps or epochs"),
        ({"max_steps": 0, "epochs": float("nan")}, "needs steps or epochs"),
    ],
)
def test_what_no_training_can_do(options: Any, wrong: dict[str, Any], said: str) -> None:
    options(**{name: 3 for name in wrong if name in ("batch_size", "save_steps", "max_steps")})
    with pytest.raises(UsageError, match=said):
        options(**wrong)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (BiEncoderTraining, "learning_rate"),
        (CrossEncoderTraining, "learning_rate"),
        (GeneratorTraining, "learning_rate"),
        (GeneratorTraining, "fresh_learning_rate"),
    ],
)
def test_rates_teach_something(options: Any, name: str) -> None:
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match=f"a {name} of {rate} teaches nothing"):
            options(**{name: rate})
