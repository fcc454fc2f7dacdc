"""A dense index as a folder: vectors, ids, and which model embedded them. The model itself is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retgen import store
from retgen.dense.id_column import read_ids, write_ids
from retgen.dense.kinds import IndexKind
from retgen.dense.vectors import VectorIndex
from retgen.errors import ArtefactError

KIND = "dense"


@dataclass(frozen=True, slots=True)
class DenseFolder:
    """What a folder holds.

    Args:
        vectors: of the documents.
        ids: of the documents, in the order of their vectors.
        model: its name; empty where a loaded model made them.
        digest: of the model's folder, where retgen saved it.
        batch_size: that texts are encoded in.
        fingerprint: of the corpus, where known.
    """

    vectors: VectorIndex
    ids: Sequence[str]
    model: str
    digest: str | None
    batch_size: int
    fingerprint: str | None

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the folder, whole or not at all.

        Raises:
            ArtefactError: something stands there that may not be replaced.
        """
        about = {
            "fingerprint": self.fingerprint,
            "model": self.model,
            "model_digest": self.digest,
            "batch_size": self.batch_size,
            "index": asdict(self.vectors.kind),
        }
        with store.create(path, kind=KIND, made_by=about, overwrite=overwrite) as staging:
            self.vectors.save(staging)
            write_ids(staging, self.ids)

    @classmethod
    def open(cls, path: str | Path, *, mmap: bool = True) -> DenseFolder:
        """Open a folder; with ``mmap`` vectors and ids stay on disk and are read as searches touch them.

        Raises:
            ArtefactError: the folder is missing, torn or of another kind.
        """
        manifest = store.open_folder(path, kind=KIND)
        about: Any = manifest.made_by
        torn = ArtefactError("this dense index is torn", where=path, mend="Build it again")
        try:
            kind = IndexKind(**about["index"])
            ids = read_ids(manifest.path)
            opened = cls(
                VectorIndex.open(manifest.path, kind, mmap=mmap),
                ids,
                str(about["model"]),
                about["model_digest"],
                int(about["batch_size"]),
                about["fingerprint"],
            )
        except (KeyError, TypeError, OSError, ValueError) as error:
            raise torn from error
        if len(opened.vectors) != len(ids):
            raise torn
        return opened
