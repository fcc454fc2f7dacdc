"""The ids of an index' documents as an Arrow file, which is mapped, not read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import pyarrow as pa

_FILE = "ids.arrow"


class IdColumn(Sequence[str]):
    """Ids in order, read as they are asked for."""

    def __init__(self, column: pa.Array) -> None:
        self._column = column

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._column[index]
        return found.to_pylist() if isinstance(index, slice) else found.as_py()  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self._column)


def write_ids(folder: Path, ids: Sequence[str]) -> None:
    """Write ids into a folder."""
    table = pa.table({"id": pa.array(list(ids), pa.large_string())})
    with pa.OSFile(str(folder / _FILE), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_ids(folder: Path) -> IdColumn:
    """What `write_ids` wrote.

    Raises:
        OSError, ValueError: the file is not there, or torn.
    """
    table = pa.ipc.open_file(pa.memory_map(str(folder / _FILE))).read_all()
    column = table.column("id")
    return IdColumn(column.chunk(0) if column.num_chunks == 1 else column.combine_chunks())
