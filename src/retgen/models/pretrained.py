"""Checkpoints that others made: what a folder or hub id holds, and reading it, with errors that say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig

from retgen.errors import FormatError, RetgenError
from retgen.models.quiet import no_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
"""What transformers raises for folders that are missing, torn or of another kind."""


def model_type(path: str | Path) -> str:
    """The type of the model that a folder or hub id holds, e.g. ``"t5"`` or ``"bert"``.

    Raises:
        FormatError: there is no model.
    """
    try:
        values, _ = PreTrainedConfig.get_config_dict(str(path))
    except _ERRORS as error:
        raise _not_loaded("model", path, error) from error
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise FormatError(
            "no model was found here: there is no config.json that names a model_type",
            where=path,
            mend="Give a hub id, or a folder written by save_pretrained",
        )
    return kind


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model.

    Raises:
        FormatError: there is none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises nothing more precise
        raise _not_loaded("tokenizer", path, error) from error
    # Where there are no files, transformers makes an empty tokenizer of the model's kind.
    if len(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)) <= 1:
        raise _not_loaded("tokenizer", path, FileNotFoundError("there are no tokenizer files"))
    return tokenizer


def load_weights(kind: Any, path: str | Path) -> PreTrainedModel:
    """A model of a transformers class, in fp32.

    Args:
        kind: the class, e.g. ``AutoModel``.
        path: a folder or hub id.

    Raises:
        FormatError: no such model can be loaded from there.
    """
    try:
        with no_progress_bars():
            model: PreTrainedModel = kind.from_pretrained(str(path), dtype="float32", trust_remote_code=False)
    except RetgenError:
        raise
    except _ERRORS as error:
        raise _not_loaded("model", path, error) from error
    return model


def copy_weights(source: nn.Module, target: nn.Module, *, leave_out: str) -> None:
    """Copy every weight of a module into one of the same shape, but those whose names begin with ``leave_out``.

    Raises:
        FormatError: one has a weight that the other lacks.
    """
    weights = {name: value for name, value in source.state_dict().items() if not name.startswith(leave_out)}
    try:
        target.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise FormatError(
            f"the weights of this {type(source).__name__} do not fit: {_first_line(error)}",
            mend="Report the model's name: its family is laid out in another way than expected",
        ) from error


def _not_loaded(what: str, path: str | Path, error: Exception) -> FormatError:
    if not Path(path).exists():
        return FormatError(
            f"there is no such folder, and no {what} of this name came from the hub ({_first_line(error)})",
            where=path,
            mend="Check the path; for a hub id, that the hub can be reached, or that the model was fetched before",
        )
    return FormatError(
        f"no {what} can be loaded from here ({_first_line(error)})",
        where=path,
        mend="Give a hub id that can be reached, or a folder written by save_pretrained",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
