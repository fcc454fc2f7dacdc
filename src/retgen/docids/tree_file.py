"""A prefix tree on disk: one ``.npy`` per array, mapped into memory, and a manifest that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retgen import store
from retgen.docids.lineage import check_lineage
from retgen.docids.tree_build import TreeArrays
from retgen.errors import ArtefactError

if TYPE_CHECKING:
    from retgen.docids.prefix_tree import PrefixTree

KIND = "docid-tree"
_TYPES = (np.uint8, np.uint16, np.int32, np.int64)


class SavedTree(NamedTuple):
    """What a tree's folder holds."""

    arrays: TreeArrays
    eos_token_id: int
    max_length: int
    max_token_id: int
    lineage: dict[str, str]


def save_tree(tree: PrefixTree, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a tree as a folder; see `PrefixTree.save`."""
    made_by = {
        "eos_token_id": tree.eos_token_id,
        "max_length": tree.max_length,
        "max_token_id": tree.max_token_id,
        "lineage": dict(tree.lineage),
    }
    with store.create(path, kind=KIND, made_by=made_by, overwrite=overwrite) as staging:
        for name, array in tree.arrays._asdict().items():
            np.save(staging / f"{name}.npy", array)


def load_tree(path: str | Path, *, lineage: Mapping[str, str], verify: bool = False) -> SavedTree:
    """Open a tree's folder, its arrays mapped into memory; see `PrefixTree.load`.

    Args:
        path: the folder.
        lineage: fingerprints that the tree's must not contradict.
        verify: also read every file and compare checksums.
    """

    def read(manifest: store.Manifest) -> SavedTree:
        about = manifest.made_by
        found = about.get("lineage")
        numbers = [about.get(name) for name in ("eos_token_id", "max_length", "max_token_id")]
        if not isinstance(found, dict) or not all(isinstance(number, int) for number in numbers):
            raise ArtefactError(
                "its manifest lacks what a tree needs", where=manifest.path, mend="Build the tree again"
            )
        check_lineage(found, lineage, what="this prefix tree", where=manifest.path)
        eos_token_id, max_length, max_token_id = (int(str(number)) for number in numbers)
        return SavedTree(load_arrays(manifest.path), eos_token_id, max_length, max_token_id, found)

    return store.load(path, kind=KIND, read=read, verify=verify)


def load_arrays(folder: Path) -> TreeArrays:
    """The arrays saved in a folder, one ``.npy`` each, mapped into memory.

    Raises:
        ArtefactError: one is missing or unreadable, or their sizes do not belong together.
    """
    parts = {}
    for name in TreeArrays._fields:
        source = folder / f"{name}.npy"
        try:
            parts[name] = np.load(source, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise ArtefactError(
                f"an array of this prefix tree cannot be read ({error})", where=source, mend="Build the tree again"
            ) from error
    arrays = TreeArrays(**parts)
    leaves = len(arrays.leaf_length)
    whole = (
        all(array.ndim == 1 and array.dtype in _TYPES for array in arrays)
        and leaves >= 1
        and len(arrays.child_offsets) - 1 == len(arrays.leaf_start) == len(arrays.leaf_stop) >= 1
        and len(arrays.edge_tokens) == len(arrays.edge_targets) == int(arrays.child_offsets[-1])
        and len(arrays.tail_offsets) == len(arrays.document_offsets) == leaves + 1
        and len(arrays.tails) == int(arrays.tail_offsets[-1])
        and len(arrays.documents) == int(arrays.document_offsets[-1])
    )
    if not whole:
        raise ArtefactError("the arrays of this prefix tree do not fit together", where=folder, mend="Build it again")
    return arrays
