"""The folder of an answerer over a reader model: model and tokenizer, settings, calibration, training history."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retgen import store
from retgen.answer.closed_book import ClosedBook
from retgen.answer.fid import FiD
from retgen.answer.rag import Rag
from retgen.answer.reading import ReadingAnswerer
from retgen.devices import pick_device, pick_dtype
from retgen.errors import ArtefactError, UsageError
from retgen.evaluate import Calibration
from retgen.generative.history import read_history, write_history
from retgen.models.generator_sources import load_saved_generator
from retgen.models.quiet import no_progress_bars
from retgen.models.reader_format import ReaderFormat

KIND = "reader"
SETTINGS, CALIBRATION = "settings.json", "calibration.json"
ANSWERERS: dict[str, type[ReadingAnswerer]] = {made.reader_class.method: made for made in (ClosedBook, FiD, Rag)}
"""By the name of the method, as folders and recipes have it."""


def write_reader(answerer: ReadingAnswerer, path: str | Path, *, overwrite: bool = False) -> None:
    """Write an answerer as one folder, whole or not at all.

    Raises:
        ArtefactError: something stands there that may not be replaced, or the disk is full.
    """
    reader = answerer.reader
    settings = {
        "method": reader.method,
        "format": asdict(reader.format),
        "reader": reader.settings,
        "passages": answerer.passages,
        "num_beams": answerer.num_beams,
    }
    with store.create(path, kind=KIND, made_by={"method": reader.method}, overwrite=overwrite) as staging:
        with no_progress_bars():
            answerer.model.save_pretrained(staging / "model")
        answerer.tokenizer.save_pretrained(staging / "model")
        (staging / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        if answerer.calibration is not None:
            (staging / CALIBRATION).write_text(json.dumps(asdict(answerer.calibration)) + "\n")
        write_history(staging, answerer.history)


def open_reader(path: str | Path, *, device: str = "auto", dtype: str = "auto") -> ReadingAnswerer:
    """Open an answerer of any kind that `write_reader` wrote.

    Args:
        path: the folder.
        device: see `retgen.devices.pick_device`.
        dtype: ``auto`` (bf16 where it is faster), ``fp32`` or ``bf16``.

    Raises:
        ArtefactError: the folder is torn, foreign or of another kind.
    """
    chosen = pick_device(device)
    weights = pick_dtype(chosen, dtype)

    def parts(manifest: store.Manifest) -> ReadingAnswerer:
        loaded, tokenizer = load_saved_generator(manifest.path / "model")
        model: Any = loaded
        model.to(device=chosen, dtype=weights).eval()
        try:
            settings = json.loads((manifest.path / SETTINGS).read_text())
            kind = ANSWERERS[settings["method"]]
            made: Any = kind.reader_class
            reader = made(model, tokenizer, ReaderFormat(**settings["format"]), **settings["reader"])
            found = kind(reader, passages=settings["passages"], num_beams=settings["num_beams"])
            if (manifest.path / CALIBRATION).exists():
                found.calibration = Calibration(**json.loads((manifest.path / CALIBRATION).read_text()))
        except (ValueError, TypeError, KeyError, UsageError) as error:
            raise ArtefactError(
                f"its settings cannot be read ({error})", where=manifest.path, mend="Train the model again"
            ) from error
        found.history = read_history(manifest.path)
        return found

    return store.load(path, kind=KIND, read=parts)
