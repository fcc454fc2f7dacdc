"""Gradient checkpointing of a model, under the name that its release of transformers has for it."""

from __future__ import annotations

from typing import Any


def enable_checkpointing(model: Any, enable: bool = True) -> None:
    """Have a model in training make its layers' activations anew for the backward pass, or keep them again."""
    # Renamed within transformers 5: earlier releases lack the new name, later ones warn of the old.
    prefix = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if enable:
        getattr(model, f"{prefix}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{prefix}_checkpointing_disable")()
