"""What the options of every training must keep to, checked when they are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from retgen.errors import UsageError

PRECISIONS = ("auto", "fp32", "bf16")


def check_options(
    options: Any,
    *,
    at_least_one: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    rates: Iterable[str] = (),
) -> None:
    """Check what all trainings have, and the fields named.

    Args:
        options: a `retgen.train.arguments.TrainingOptions`.
        at_least_one: more fields of 1 and above, beside ``batch_size`` and ``save_steps``.
        not_negative: more fields of 0 and above, beside ``max_steps``, ``eval_steps`` and ``warmup_steps``.
        rates: learning rates, above 0 or None.

    Raises:
        UsageError: a field is out of its range, or there are neither steps nor epochs.
    """
    if options.precision not in PRECISIONS:
        raise UsageError(f"unknown precision {options.precision!r}", mend="Choose auto, fp32 or bf16")
    for name in ("batch_size", "save_steps", *at_least_one):
        if not getattr(options, name) >= 1:  # not a number is neither, here and below
            raise UsageError(f"{name} must be at least 1, not {getattr(options, name)}")
    for name in ("max_steps", "eval_steps", "warmup_steps", *not_negative):
        if not getattr(options, name) >= 0:
            raise UsageError(f"{name} cannot be negative, but is {getattr(options, name)}")
    for name in rates:
        rate = getattr(options, name)
        if rate is not None and not rate > 0:
            raise UsageError(f"a {name} of {rate} teaches nothing", mend="Give one above 0")
    if not options.max_steps and not options.epochs > 0:
        raise UsageError("a training needs steps or epochs", mend="Set max_steps, or epochs above 0")
