"""BM25 reaches the published scores on BEIR's SciFact and NFCorpus (k1 0.9, b 0.4), and survives the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.evaluate import evaluate_run
from retgen.formats import read_corpus, read_qrels, read_queries
from retgen.lexical import BM25
from retgen.types import Qrels, Query, Run

FIELDS = {"title": 1.0, "text": 1.0}


def _collection(home: Path, name: str) -> tuple[list[Query], Qrels]:
    qrels = read_qrels(home / name / "qrels" / "test.tsv")
    return [query for query in read_queries(home / name) if query.id in qrels], qrels


def _without_the_query_itself(run: Run) -> Run:
    """As BEIR's evaluation does where queries are drawn from the corpus."""
    return Run.from_dict(
        {query_id: {d: s for d, s in hits.items() if d != query_id} for query_id, hits in run.to_dict().items()}
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("scifact", 0.679), ("nfcorpus", 0.322)])
def test_flat_bm25_reaches_the_published_score(name: str, published: float, shared_data: Path, tmp_path: Path) -> None:
    queries, qrels = _collection(shared_data, name)
    built = BM25.build(read_corpus(shared_data / name))
    run = built.search(queries, 100)
    assert evaluate_run(run, qrels, ["nDCG@10"]).means["nDCG@10"] == pytest.approx(published, abs=0.01)
    built.save(tmp_path / "bm25")
    assert BM25.open(tmp_path / "bm25").search(queries, 100).to_dict() == run.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("scifact", 0.665), ("nfcorpus", 0.326)])
def test_bm25_over_fields_reaches_the_published_score(name: str, published: float, shared_data: Path) -> None:
    queries, qrels = _collection(shared_data, name)
    run = BM25.build(read_corpus(shared_data / name), fields=FIELDS).search(queries, 100)
    score = evaluate_run(_without_the_query_itself(run), qrels, ["nDCG@10"]).means["nDCG@10"]
    assert score == pytest.approx(published, abs=0.015)
