"""Models that others made: what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModel

from retgen.errors import FormatError
from retgen.models.pretrained import load_tokenizer, load_weights, model_type

LOADERS: dict[str, Callable[[Path], object]] = {
    "type": model_type,
    "tokenizer": load_tokenizer,
    "weights": lambda path: load_weights(AutoModel, path),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_folder_that_is_not_there_is_said_to_be_missing(load: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="there is no such folder") as caught:
        load(tmp_path / "none")
    assert "Check the path" in str(caught.value)


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_folder_without_a_model_is_not_said_to_be_missing(load: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FormatError) as caught:
        load(tmp_path)
    assert "no such folder" not in str(caught.value)
