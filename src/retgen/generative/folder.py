"""The folder of a `UniGen`: model and tokenizer, docids, settings, and the history of the training.

The docids are live (`retgen.docids.live_folder`): beside them grows a journal of the documents added and removed since,
which the folder's manifest does not name. Writing the folder anew takes the changes into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from retgen import store
from retgen.docids import live_folder
from retgen.docids.changing import ChangingDocids
from retgen.docids.live import LiveDocids
from retgen.docids.table import DocidTable
from retgen.errors import ArtefactError, UsageError
from retgen.generative.history import KIND, read_history, write_history
from retgen.generative.settings import UniGenSettings
from retgen.models.quiet import no_progress_bars
from retgen.models.saving import load_saved

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from retgen.models.unigen import UniGenForRetrievalAndAnswering

DOCIDS = "docids"


class SavedUniGen(NamedTuple):
    """What one folder held at one moment."""

    model: UniGenForRetrievalAndAnswering
    tokenizer: PreTrainedTokenizerBase
    docids: ChangingDocids
    settings: UniGenSettings
    history: list[dict[str, float]]
    made_by: dict[str, object]


def write_folder(
    path: Path,
    model: UniGenForRetrievalAndAnswering,
    tokenizer: PreTrainedTokenizerBase,
    table: DocidTable,
    settings: UniGenSettings,
    history: Sequence[Mapping[str, float]],
    *,
    made_by: Mapping[str, object],
    overwrite: bool,
) -> None:
    """Write a folder, or one in an old one's place.

    Raises:
        ArtefactError: something stands there that may not be replaced, or the disk is full.
    """
    with store.create(path, kind=KIND, made_by=made_by, overwrite=overwrite) as staging:
        with no_progress_bars():
            model.save_pretrained(staging / "model")
        tokenizer.save_pretrained(staging / "model")
        live_folder.write(staging / DOCIDS, table, replaces=path / DOCIDS)
        (staging / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
        write_history(staging, history)


def read_folder(path: str | Path, *, corpus_fingerprint: str | None = None, write: bool = False) -> SavedUniGen:
    """Read a folder, all of it from one build.

    Args:
        path: the folder.
        corpus_fingerprint: of the corpus it will be used with; checked when given and known.
        write: open the docids for changes.

    Raises:
        ArtefactError: the folder is torn, foreign or of another kind; or, with ``write``, of an early retgen, which did
            not keep docids that change.
        LockedError: with ``write``, another process changes its docids.
        MismatchError: it was trained on another corpus.
    """

    opened: list[ChangingDocids] = []

    def parts(manifest: store.Manifest) -> SavedUniGen:
        _close(opened)  # of a folder that was replaced while it was read
        try:
            settings = UniGenSettings(**json.loads((manifest.path / "settings.json").read_text()))
        except (ValueError, TypeError, UsageError) as error:
            raise ArtefactError(
                f"its settings cannot be read ({error})", where=manifest.path, mend="Train the model again"
            ) from error
        history = read_history(manifest.path)
        with no_progress_bars():
            model, tokenizer = load_saved(manifest.path / "model")
        opened.append(_docids(manifest, tokenizer, corpus_fingerprint, write))
        return SavedUniGen(model, tokenizer, opened[-1], settings, history, dict(manifest.made_by))

    try:
        return store.load(path, kind=KIND, read=parts)
    except BaseException:
        _close(opened)
        raise


def trained_table(path: str | Path) -> DocidTable:
    """The docids that a folder's model was trained on, without the changes since; no model is read.

    Raises:
        ArtefactError: the folder is torn, foreign or of another kind.
    """
    return store.load(path, kind=KIND, read=lambda manifest: DocidTable.load(_table_folder(manifest)))


def _table_folder(manifest: store.Manifest) -> Path:
    return manifest.path / DOCIDS / "table" if _is_live(manifest) else manifest.path / DOCIDS


def _is_live(manifest: store.Manifest) -> bool:
    return any(name.startswith(f"{DOCIDS}/tree/") for name in manifest.files)


def _close(docids: list[ChangingDocids]) -> None:
    for each in docids:
        if isinstance(each, LiveDocids):
            each.close()


def _docids(
    manifest: store.Manifest, tokenizer: PreTrainedTokenizerBase, corpus_fingerprint: str | None, write: bool
) -> ChangingDocids:
    if _is_live(manifest):
        return LiveDocids.open(
            manifest.path / DOCIDS,
            write=write,
            tokenizer=tokenizer,
            corpus_fingerprint=corpus_fingerprint,
            part_of=manifest.path,
        )
    if write:
        raise ArtefactError(
            "this model was saved by an early retgen, which kept no docids that change",
            where=manifest.path,
            mend="Save it anew: UniGen.open(path).save(path, overwrite=True)",
        )
    table = DocidTable.load(_table_folder(manifest), tokenizer=tokenizer, corpus_fingerprint=corpus_fingerprint)
    return ChangingDocids(table)
