"""How embeddings are kept and searched: exactly, by a graph, or as short codes. What each kind does is `vectors`'."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil, sqrt
from typing import Any

from retgen.errors import UsageError

FLAT, HNSW, IVF_PQ = "flat", "hnsw", "ivf-pq"
NAMES = (FLAT, HNSW, IVF_PQ)
CENTROIDS = 256
"""Of each part of a code, one byte; so many vectors at least are needed to learn them."""
_OF = {
    FLAT: frozenset[str](),
    HNSW: frozenset({"neighbours", "construction", "depth"}),
    IVF_PQ: frozenset({"cells", "probes", "code_bytes"}),
}
_PER_CELL = 39
"""Vectors a cell should have been learnt from: faiss' own rule."""


@dataclass(frozen=True, slots=True)
class IndexKind:
    """A kind of vector index, with its settings.

    Args:
        name: ``flat`` (every vector is compared: exact), ``hnsw`` (a graph that is walked: fast, and larger than the
            vectors), or ``ivf-pq`` (cells, of which the nearest are searched, and a few bytes a vector: small).
        neighbours: of ``hnsw``, links of a vector (M).
        construction: of ``hnsw``, candidates for them (efConstruction).
        depth: of ``hnsw``, candidates of a search (efSearch); more find more and take longer.
        cells: of ``ivf-pq``; 0 takes four times the root of the number of vectors, and at most a 39th of them.
        probes: of ``ivf-pq``, cells that are searched; 0 takes an eighth.
        code_bytes: of ``ivf-pq``, for each vector; must divide its dimension. 0 takes at most a quarter of it.

    Raises:
        UsageError: an unknown name, a negative setting, or one that belongs to another kind.

    Reference:
        Malkov and Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using HNSW Graphs", 2018;
        Jégou et al., "Product Quantization for Nearest Neighbor Search", 2011.

    Example:
        >>> IndexKind.parse("hnsw:depth=256")
        IndexKind(name='hnsw', neighbours=32, construction=200, depth=256, cells=0, probes=0, code_bytes=0)
    """

    name: str = FLAT
    neighbours: int = 32
    construction: int = 200
    depth: int = 128
    cells: int = 0
    probes: int = 0
    code_bytes: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(f"no dense index is called {self.name!r}", mend=f"Choose {', '.join(NAMES)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                continue
            if field.name not in _OF[self.name] and value != field.default:
                raise UsageError(
                    f"a dense index {self.name!r} has no setting {field.name!r}",
                    mend=f"It has {', '.join(sorted(_OF[self.name])) or 'none'}",
                )
            least = 2 if field.name == "neighbours" else 1 if _OF[HNSW] & {field.name} else 0
            if value < least:
                raise UsageError(f"{field.name} of a dense index must be at least {least}; got {value}")

    @classmethod
    def parse(cls, text: str | IndexKind) -> IndexKind:
        """A kind from ``name`` or ``name:setting=number,…``, as the command line takes it.

        Raises:
            UsageError: it cannot be read, or names nothing that there is.
        """
        if isinstance(text, IndexKind):
            return text
        name, _, given = text.partition(":")
        numbers: dict[str, Any] = {}
        known = {field.name for field in fields(cls)} - {"name"}
        for part in filter(None, map(str.strip, given.split(","))):
            setting, _, value = (item.strip() for item in part.partition("="))
            if setting not in known or not value.isdecimal():
                raise UsageError(
                    f"{part!r} is no setting of a dense index",
                    mend=f"For example {HNSW}:depth=256 or {IVF_PQ}:probes=32,code_bytes=48",
                )
            numbers[setting] = int(value)
        return cls(name.strip(), **numbers)

    def cells_for(self, vectors: int) -> int:
        """How many cells so many vectors are put in."""
        return self.cells or max(1, min(round(4 * sqrt(vectors)), vectors // _PER_CELL))

    def probes_for(self, cells: int) -> int:
        """How many of so many cells a search looks at first."""
        return min(cells, self.probes or ceil(cells / 8))

    def code_bytes_for(self, dimension: int) -> int:
        """Bytes of a vector's code.

        Raises:
            UsageError: the setting does not divide the dimension.
        """
        if self.code_bytes:
            if dimension % self.code_bytes:
                raise UsageError(
                    f"code_bytes must divide the embeddings' dimension {dimension}; got {self.code_bytes}",
                    mend=f"For example {IndexKind(IVF_PQ).code_bytes_for(dimension)}",
                )
            return self.code_bytes
        return next(size for size in range(max(1, dimension // 4), 0, -1) if dimension % size == 0)
