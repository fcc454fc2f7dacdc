"""Codes of documents from their embeddings: paths down a tree of clusters, and product quantisation.

k-means is faiss', on one thread's order of sums as far as it goes: one seed gives one result on one machine. Where the
embeddings come from is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retgen.docids.codes import Code
from retgen.errors import MissingExtraError, UsageError

FloatRows = npt.NDArray[np.float32]

_ROUNDS = 25


def cluster_codes(vectors: npt.ArrayLike, *, clusters: int, leaf: int, seed: int = 0) -> list[Code]:
    """Of every document the path down a tree of clusters, and last its number within the leaf.

    A cluster with more than ``leaf`` documents is split by k-means into ``clusters``, and so on; the documents of a
    leaf are numbered in corpus order. Documents that k-means leaves in one cluster (equal embeddings) are split in
    corpus order. No two documents have the same code, and none is the beginning of another.

    Args:
        vectors: ``(documents, d)`` embeddings, in corpus order.
        clusters: k, the children of a cluster: 10 in DSI, 30 in NCI.
        leaf: c, the most documents of a leaf: 100 in DSI, 30 in NCI.
        seed: of the first centroids.

    Raises:
        UsageError: no vectors, vectors that are not finite, fewer than two clusters, or an empty leaf.
        MissingExtraError: faiss is not installed.

    Reference:
        Tay et al., "Transformer Memory as a Differentiable Search Index", 2022, "Semantically Structured Identifiers";
        Wang et al., "A Neural Corpus Indexer for Document Retrieval", 2022.

    Example:
        >>> cluster_codes([[0.0], [0.1], [5.0], [5.1]], clusters=2, leaf=2) in (
        ...     [(0, 0), (0, 1), (1, 0), (1, 1)], [(1, 0), (1, 1), (0, 0), (0, 1)]
        ... )
        True
    """
    if clusters < 2 or leaf < 1:
        raise UsageError(f"documents cannot be split into {clusters} clusters down to leaves of {leaf}")
    rows = _checked(vectors)
    codes: list[list[int]] = [[] for _ in rows]
    # Depth first with a list of its own: equal vectors may make trees deeper than Python recurses.
    waiting = [np.arange(len(rows))]
    while waiting:
        members = waiting.pop()
        if len(members) <= leaf:
            for number, member in enumerate(members.tolist()):
                codes[member].append(number)
            continue
        labels = _split(rows[members], min(clusters, len(members)), seed)
        for label in np.unique(labels).tolist():
            chosen = members[labels == label]
            for member in chosen.tolist():
                codes[member].append(label)
            waiting.append(chosen)
    return [tuple(code) for code in codes]


@dataclass(frozen=True, slots=True)
class ProductCodes:
    """Product quantisation of embeddings.

    Args:
        codes: ``(documents, groups)``: of each group of dimensions, the nearest centroid.
        centroids: ``(groups, codes, d / groups)``.
    """

    codes: npt.NDArray[np.int64]
    centroids: FloatRows

    def decoded(self, codes: npt.NDArray[np.integer] | None = None) -> FloatRows:
        """``(documents, d)``: the embeddings that codes ``(documents, groups)`` stand for; these by default."""
        codes = self.codes if codes is None else codes
        found: FloatRows = self.centroids[np.arange(codes.shape[1]), codes]
        return found.reshape(len(codes), -1)


def product_codes(vectors: npt.ArrayLike, *, groups: int, codes: int, seed: int = 0) -> ProductCodes:
    """Embeddings as numbers of centroids, group of dimensions by group.

    Args:
        vectors: ``(documents, d)`` embeddings.
        groups: into which the d dimensions are cut; 24 in Ultron.
        codes: centroids of a group, a power of 2; 256 in Ultron. Not more than there are documents.
        seed: of the first centroids.

    Raises:
        UsageError: dimensions that cannot be cut so, or more codes than documents.
        MissingExtraError: faiss is not installed.

    Reference:
        Jégou et al., "Product Quantization for Nearest Neighbor Search", 2011; Zhou et al., "Ultron: An Ultimate
        Retriever on Corpus with a Model-based Indexer", 2022.
    """
    rows = _checked(vectors)
    width = rows.shape[1]
    if groups < 1 or width % groups:
        fits = [number for number in range(1, min(width, 64) + 1) if width % number == 0]
        raise UsageError(
            f"{width} dimensions cannot be cut into {groups} groups", mend=f"Choose one of {', '.join(map(str, fits))}"
        )
    bits = codes.bit_length() - 1
    if codes < 2 or codes != 2**bits or bits > 16:
        raise UsageError(f"a group has a power of 2 of codes, 2 to 65536, not {codes}")
    if codes > len(rows):
        raise UsageError(
            f"{codes} codes cannot be learnt from {len(rows)} documents",
            mend=f"Choose {2 ** (len(rows).bit_length() - 1)} codes at most"
            if len(rows) > 1
            else "Give more documents",
        )
    faiss = _faiss()
    quantiser = faiss.ProductQuantizer(width, groups, bits)
    # Few documents are the rule in small collections; faiss would write a warning to the terminal.
    quantiser.cp.seed, quantiser.cp.min_points_per_centroid, quantiser.cp.niter = seed, 1, _ROUNDS
    quantiser.train(rows)
    centroids = faiss.vector_to_array(quantiser.centroids).reshape(groups, codes, width // groups)
    parts = rows.reshape(len(rows), groups, -1)
    numbers = np.empty((len(rows), groups), dtype=np.int64)
    for group in range(groups):
        _, nearest = faiss.knn(np.ascontiguousarray(parts[:, group]), np.ascontiguousarray(centroids[group]), 1)
        numbers[:, group] = nearest[:, 0]
    return ProductCodes(numbers, centroids)


def _split(rows: FloatRows, clusters: int, seed: int) -> npt.NDArray[np.int64]:
    """The cluster of each row, from 0; at least two of them."""
    faiss = _faiss()
    means = faiss.Kmeans(
        rows.shape[1], clusters, niter=_ROUNDS, seed=seed, min_points_per_centroid=1, max_points_per_centroid=2**31 - 1
    )
    means.train(rows)
    labels: npt.NDArray[np.int64] = means.index.search(rows, 1)[1][:, 0]
    if len(np.unique(labels)) > 1:
        return labels
    return np.arange(len(rows)) * clusters // len(rows)


def _checked(vectors: npt.ArrayLike) -> FloatRows:
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise UsageError(f"codes need one embedding for each document, not an array of shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise UsageError("an embedding is not finite (NaN or infinite)", mend="Check the encoder that made it")
    return rows


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "dense") from error
    return faiss
