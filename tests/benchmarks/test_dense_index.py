"""The benchmark of dense indexes runs, and fails where the exact index does not find what the peer finds."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("faiss")

from benchmarks import bench_dense_index as bench

SMALL = ("--vectors", "600", "--width", "16", "--queries", "5", "--repeats", "1")


def test_json_has_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main([*SMALL, "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    results = {result["kind"]: result for result in json.loads(line)["results"]}
    assert set(results) == set(bench.KINDS)
    assert results["flat"]["recall"] == 1.0
    assert results["hnsw"]["recall"] > 0.9
    assert results["ivf-pq"]["bytes_a_vector"] < results["flat"]["bytes_a_vector"] < results["hnsw"]["bytes_a_vector"]
    for result in results.values():
        assert result["ratio"] == pytest.approx(result["peer_ms"] / result["query_ms"])


def test_the_table_names_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main([*SMALL, "--kinds", "flat"])
    assert "numpy, ms/query" in capsys.readouterr().out


def test_an_index_that_finds_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bench.vectors(300, 16, 0)
    other = bench.plain
    monkeypatch.setattr(bench, "plain", lambda vectors, query: other(np.ascontiguousarray(vectors[::-1][50:]), query))
    with pytest.raises(SystemExit, match="differ"):
        bench.measure(rows, rows[:5], "flat", 1)
