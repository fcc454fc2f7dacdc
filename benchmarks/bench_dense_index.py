"""Dense indexes (`retgen.dense.vectors`): flat, HNSW and IVF-PQ, memory-mapped, against a plain matrix product.

The peer is what one would write without an index: the product of all vectors with the query (numpy, fp32) and its best
ten. All are asked the same queries one by one, in turns, in this process. The flat index must find what the peer finds
(to ties within 1e-5), else the benchmark fails; of the others the share of the peer's best ten is printed. Every index
is written, opened memory-mapped, and measured as opened, warm. A ratio above 1 says that retgen is quicker.

The vectors are made up: of length 1, in bunches, as embeddings are, of MiniLM's width. How much an index finds depends
on the data: real embeddings are often easier than these.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

import retgen
from retgen.dense.kinds import FLAT, IndexKind
from retgen.dense.vectors import VectorIndex
from retgen.evaluate import Column, Row, Table

K = 10
TOLERANCE = 1e-5
PER_BUNCH = 50
KINDS = ("flat", "hnsw", "ivf-pq")

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """One kind of index over one collection: seconds to build, bytes on disk, milliseconds a query, shares of 1."""

    kind: str
    vectors: int
    build_seconds: float
    open_ms: float
    bytes_a_vector: float
    query_ms: float
    peer_ms: float
    ratio: float
    recall: float


def vectors(number: int, width: int, seed: int) -> Rows:
    """Vectors of length 1 in bunches of about fifty, ``(number, width)``."""
    chance = np.random.default_rng(seed)
    bunches = np.random.default_rng(width).standard_normal((max(1, number // PER_BUNCH), width), dtype=np.float32)
    rows = bunches[chance.integers(0, len(bunches), number)] + chance.standard_normal((number, width), dtype=np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def plain(rows: Rows, query: Rows) -> tuple[npt.NDArray[np.int64], Rows]:
    """The peer: numbers and scores of the best ten, best first."""
    scores = rows @ query
    best = np.argpartition(-scores, K)[:K] if len(scores) > K else np.arange(len(scores))
    best = best[np.argsort(-scores[best], kind="stable")]
    return best, scores[best]


def measure(rows: Rows, queries: Rows, kind: str, repeats: int) -> Result:
    """Build, write, open and ask one kind.

    Raises:
        SystemExit: the flat index finds something else than the peer.
    """
    chosen = IndexKind.parse(kind)
    start = time.perf_counter()
    built = VectorIndex.build((rows[n : n + 4096] for n in range(0, len(rows), 4096)), chosen)
    build = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as home:
        built.save(Path(home))
        del built
        size = sum(path.stat().st_size for path in Path(home).iterdir())
        start = time.perf_counter()
        index = VectorIndex.open(Path(home), chosen)
        opened = time.perf_counter() - start
        ours: list[float] = []
        theirs: list[float] = []
        found = 0
        for repeat in range(repeats + 1):  # the first to warm up
            for query in queries:
                start = time.perf_counter()
                positions, scores = index.nearest(query, K)
                between = time.perf_counter()
                best, peer_scores = plain(rows, query)
                if repeat:
                    ours.append(between - start)
                    theirs.append(time.perf_counter() - between)
                    found += len({*positions.tolist()} & {*best.tolist()})
                if chosen.name == FLAT and np.abs(scores - peer_scores).max() > TOLERANCE:
                    raise SystemExit(f"the flat index and the peer differ: {scores} and {peer_scores}")
    ms, peer_ms = (1000 * statistics.median(times) for times in (ours, theirs))
    recall = found / (repeats * len(queries) * min(K, len(rows)))
    return Result(kind, len(rows), build, 1000 * opened, size / len(rows), ms, peer_ms, peer_ms / ms, recall)


def machine() -> dict[str, str]:
    """What the numbers belong to."""
    return {
        "retgen": retgen.__version__,
        "faiss": faiss.__version__,
        "numpy": np.__version__,
        "threads": str(faiss.omp_get_max_threads()),
        "cpus": str(os.cpu_count()),
        "machine": platform.machine(),
    }


def table(results: Sequence[Result]) -> Table:
    """A row for each kind and size."""
    columns = [
        Column("vectors", best=None),
        Column("build_seconds", "build (s)", decimals=1, best=None),
        Column("open_ms", "open (ms)", decimals=1, best=None),
        Column("bytes_a_vector", "bytes a vector", decimals=0, best=None),
        Column("recall", f"of the best {K}", decimals=3, best=None),
        Column("query_ms", "ms/query", decimals=2, best=None),
        Column("peer_ms", "numpy, ms/query", decimals=2, best=None),
        Column("ratio", decimals=1, best=None),
    ]
    made = Table(columns, caption="Dense indexes against a plain matrix product, one query at a time", corner="index")
    for result in results:
        made.add_row(Row(result.kind, asdict(result)))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), help="as --dense-index takes them")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    options = parser.parse_args(arguments)
    results = []
    for number in options.vectors:
        rows = vectors(number, options.width, options.seed)
        queries = vectors(options.queries, options.width, options.seed + 1)
        for kind in options.kinds:
            print(f"{kind} over {number} vectors", file=sys.stderr)
            results.append(measure(rows, queries, kind, options.repeats))
    if options.json:
        body = {"benchmark": "dense_index", "machine": machine(), "width": options.width, "k": K}
        print(json.dumps({**body, "results": [asdict(result) for result in results]}))
        return
    print(table(results).to_markdown())
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
