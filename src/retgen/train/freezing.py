"""Weights that keep still for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, no weight of these parts has a gradient; behind it, those have one again that had one before."""
    trained = {parameter: None for part in parts for parameter in part.parameters() if parameter.requires_grad}
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
