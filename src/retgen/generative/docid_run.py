"""From what a docid search found, block by block, to a run; what an exact search certifies are components of hits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retgen.types import Query, Run

if TYPE_CHECKING:
    from retgen.docids.hits import Certificate, DocidHits
    from retgen.docids.table import DocidTable

CERTIFICATE = ("certified", "tied", "expanded", "gap")
"""Components of every hit of an exact search; `certificate_of` reads them."""


class DocidRun:
    """Hits of queries that are searched for in blocks, in any order.

    Args:
        queries: all of them.
        table: of the tree that is searched.
        certified: whether the search is an exact one.
    """

    def __init__(self, queries: Sequence[Query], table: DocidTable, *, certified: bool) -> None:
        self._queries, self._table = queries, table
        self._hits: list[tuple[list[str], list[float]]] = [([], []) for _ in queries]
        self._certificates: list[Certificate | None] | None = [None] * len(queries) if certified else None

    def add(self, numbers: Sequence[int], found: DocidHits) -> None:
        """Take in the hits of a block of queries, by their numbers."""
        for row, number in enumerate(numbers):
            self._hits[number] = (self._table.doc_ids(found.documents[row]), found.scores[row].tolist())
            if self._certificates is not None and found.certificates is not None:
                self._certificates[number] = found.certificates[row]

    def run(self) -> Run:
        """The run of all queries."""
        return Run(
            [query.id for query in self._queries],
            [ids for ids, _ in self._hits],
            [scores for _, scores in self._hits],
            components=self._components(),
            fingerprint=self._table.corpus_fingerprint,
            presorted=True,
        )

    def _components(self) -> dict[str, list[list[float]]] | None:
        if self._certificates is None:
            return None
        columns: dict[str, list[list[float]]] = {name: [] for name in CERTIFICATE}
        for certificate, (ids, _) in zip(self._certificates, self._hits, strict=True):
            for name, value in _as_components(certificate).items():
                columns[name].append([value] * len(ids))
        return columns


def certificate_of(components: Mapping[str, float]) -> dict[str, object] | None:
    """What the components of an exact search's hit say of its query, as plain values; None for another's.

    Returns:
        ``certified``; ``status``: ``"certified"``, ``"tie"`` or ``"budget"``; ``expanded``: prefixes read; ``gap``: by
        how much the last hit beats everything left out, None where nothing is (see `retgen.docids.hits.Certificate`).

    Example:
        >>> certificate_of({"certified": 1.0, "tied": 0.0, "expanded": 7.0, "gap": float("inf")})
        {'certified': True, 'status': 'certified', 'expanded': 7, 'gap': None}
    """
    if not all(name in components for name in CERTIFICATE):
        return None
    certified, gap = bool(components["certified"]), components["gap"]
    status = "certified" if certified else "tie" if components["tied"] else "budget"
    return {
        "certified": certified,
        "status": status,
        "expanded": int(components["expanded"]),
        "gap": gap if abs(gap) < float("inf") else None,
    }


def _as_components(certificate: Certificate | None) -> dict[str, float]:
    if certificate is None:
        return dict.fromkeys(CERTIFICATE, 0.0)
    values = (
        certificate.certified,
        certificate.status == "tie",
        certificate.expanded,
        certificate.gap,
    )
    return {name: float(value) for name, value in zip(CERTIFICATE, values, strict=True)}
