"""A trained model and its tokenizer in one folder: saved whole, checked when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retgen import store
from retgen.errors import ArtefactError, FormatError
from retgen.models.config import UniGenConfig
from retgen.models.pretrained import load_tokenizer, model_type
from retgen.models.quiet import no_progress_bars
from retgen.models.unigen import UniGenForRetrievalAndAnswering

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KIND = "unigen model"


def save_model(
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    path: str | Path,
    *,
    made_by: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Write model and tokenizer into one folder, all of it or nothing. ``from_pretrained`` reads it too.

    Args:
        path: where the folder shall stand.
        made_by: JSON values that say how the model was made.
        overwrite: replace a model that stands there.

    Raises:
        ArtefactError: something stands there that may not be replaced.
    """
    save_folder(model, tokenizer, path, kind=KIND, made_by=made_by, overwrite=overwrite)


def save_folder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: str | Path,
    *,
    kind: str,
    made_by: Mapping[str, object] | None = None,
    overwrite: bool = False,
) -> None:
    """Write any model and its tokenizer into one folder of a kind, whole or not at all.

    Raises:
        ArtefactError: something stands there that may not be replaced.
    """
    with store.create(path, kind=kind, made_by=made_by, overwrite=overwrite) as staging, no_progress_bars():
        model.save_pretrained(str(staging))
        tokenizer.save_pretrained(staging)


def load_saved(path: str | Path) -> tuple[UniGenForRetrievalAndAnswering, PreTrainedTokenizerBase]:
    """A model and its tokenizer, from a folder of `save_model`, a trainer's checkpoint, or a hub id.

    Returns:
        The model in evaluation mode, with the weights and the type it was saved with.

    Raises:
        FormatError: there is no model, or one of another kind.
        ArtefactError: the folder is torn, or its weights are not those of such a model.
    """
    if (Path(path) / store.MANIFEST).exists():
        store.open_folder(path, kind=KIND)
    kind = model_type(path)
    if kind != UniGenConfig.model_type:
        raise FormatError(
            f"this is a model of type {kind!r}, not a saved UniGen model",
            where=path,
            mend="Give a folder that retgen train unigen wrote; to begin from this model, give it as its --source",
        )
    return whole_model(UniGenForRetrievalAndAnswering, path), load_tokenizer(path)


def whole_model(kind: Any, path: str | Path) -> Any:
    """A model of a transformers class with exactly the weights that were saved, and their type.

    Raises:
        ArtefactError: weights cannot be read, are missing, or are not those of such a model.
    """
    torn = "Save the model again, or copy its folder again"
    try:
        with no_progress_bars():
            model, report = kind.from_pretrained(str(path), output_loading_info=True)
    except Exception as error:
        raise ArtefactError("its weights cannot be read", where=path, mend=torn) from error
    wrong = sorted({*report["missing_keys"], *report["unexpected_keys"], *map(str, report["mismatched_keys"])})
    if wrong:
        raise ArtefactError(
            f"{len(wrong)} of its weights are missing or foreign, e.g. {wrong[0]}", where=path, mend=torn
        )
    return model
