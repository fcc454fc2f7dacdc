"""A hash of an encoder: of all that its output depends on beside the text."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

_VOLATILE = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")


def encoder_fingerprint(encoder: nn.Module, config: PretrainedConfig) -> str:
    """SHA-256, in hexadecimal digits, of an encoder's kind, shape, weights and their dtype.

    Args:
        encoder: whose weights are read, from whatever device.
        config: what shapes it.
    """
    shape: dict[str, Any] = {name: value for name, value in config.to_dict().items() if name not in _VOLATILE}
    digest = hashlib.sha256(type(encoder).__name__.encode())
    digest.update(json.dumps(shape, sort_keys=True, default=str).encode())
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
