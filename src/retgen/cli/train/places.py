"""Where a training writes: the model folders it will make, and the folder of its checkpoints until it is done."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from retgen.errors import ArtefactError


def check_free(folder: Path, kind: str, *, overwrite: bool) -> None:
    """Refuse a folder that may not be made: what would be met after hours of training is met before them.

    Raises:
        ArtefactError: something stands there that may not be replaced, or it cannot be written.
    """
    from retgen import store

    parent_existed = folder.parent.exists()
    with contextlib.suppress(_OnlyLookedError), store.create(folder, kind=kind, overwrite=overwrite):
        raise _OnlyLookedError
    if not parent_existed:
        folder.parent.rmdir()


def make_checkpoints(folder: Path, training: str) -> None:
    """Make the folder of a training's checkpoints, if it is not there, marked as such."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / training).touch()


def remove_checkpoints(folder: Path, training: str) -> None:
    """Remove what `make_checkpoints` made, with all in it; nothing else is ever removed.

    Raises:
        ArtefactError: the folder is not marked as this training's.
    """
    if not folder.exists():
        return
    if not (folder / training).is_file():
        raise ArtefactError(f"a folder that is no {training} stands there", where=folder, mend="Move it away")
    shutil.rmtree(folder)


class _OnlyLookedError(Exception):
    pass
