"""BM25: scores are the formula's, explanations add up to them, a saved index is the same index."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import ArtefactError, MismatchError, UsageError
from retgen.lexical import BM25, Analyzer, languages
from retgen.types import Document, Query

WORDS = ["oxygen", "iron", "gold", "river", "sea", "planet", "moon", "light"]
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


def by_the_formula(query: str, bodies: list[str], k1: float, b: float) -> list[float]:
    """Lucene's BM25 written out: Σ idf · tf / (tf + k1·(1 − b + b·length / mean length)), without the factor k1 + 1."""
    analyse = Analyzer()
    counts = [Counter(analyse(body)) for body in bodies]
    lengths = [sum(count.values()) for count in counts]
    mean = sum(lengths) / len(lengths)
    scores = []
    for count, length in zip(counts, lengths, strict=True):
        score = 0.0
        for term in analyse(query):
            holders = sum(term in other for other in counts)
            idf = math.log(1 + (len(bodies) - holders + 0.5) / (holders + 0.5))
            if count[term]:
                score += idf * count[term] / (count[term] + k1 * (1 - b + b * length / mean))
        scores.append(score)
    return scores


@given(st.lists(texts, min_size=1, max_size=8), texts, st.floats(0.1, 2), st.floats(0, 1))
def test_scores_are_the_formulas(bodies: list[str], question: str, k1: float, b: float) -> None:
    documents = [Document(str(n), body) for n, body in enumerate(bodies)]
    bm25 = BM25.build(documents, k1=k1, b=b)
    found = bm25.search([Query("q", question)], len(bodies)).to_dict()["q"]
    expected = {str(n): score for n, score in enumerate(by_the_formula(question, bodies, k1, b)) if score > 0}
    assert found.keys() == expected.keys()
    for doc_id, score in found.items():
        assert score == pytest.approx(expected[doc_id], rel=1e-4)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8), texts)
def test_explanations_add_up(pairs: list[tuple[str, str]], question: str) -> None:
    documents = [Document(str(n), text, title) for n, (title, text) in enumerate(pairs)]
    bm25 = BM25.build(documents, fields={"title": 2.0, "text": 1.0})
    query = Query("q", question)
    scores = bm25.search([query], len(documents)).to_dict()["q"]
    for document in documents:
        explained = bm25.explain(query, document)
        assert explained.components["bm25"] == pytest.approx(scores.get(document.id, 0.0), rel=1e-5)
        assert sum(score for _, score in explained.tokens) == pytest.approx(explained.components["bm25"], rel=1e-5)
        fields = explained.components["title"] + explained.components["text"]
        assert fields == pytest.approx(explained.components["bm25"], rel=1e-5)


@given(st.lists(texts, min_size=1, max_size=30), texts, st.integers(1, 30))
def test_ties_stand_in_corpus_order(bodies: list[str], question: str, k: int) -> None:
    run = BM25.build([Document(str(n), body) for n, body in enumerate(bodies)]).search([Query("q", question)], k)
    keys = [(-hit.score, int(hit.doc_id)) for hit in run["q"]]
    assert keys == sorted(keys)


def test_a_saved_index_is_the_same_index(tmp_path: Path) -> None:
    documents = [Document(f"d{n}", " ".join(WORDS[n % 8 : n % 8 + 3]), WORDS[(n * 3) % 8]) for n in range(40)]
    built = BM25.build(documents, fields={"title": 0.5, "text": 2.0}, language="porter", k1=1.1, b=0.3)
    built.save(tmp_path / "bm25")
    queries = [Query(str(n), " ".join(WORDS[n:])) for n in range(8)]
    for mmap in (True, False):
        opened = BM25.open(tmp_path / "bm25", mmap=mmap)
        assert opened.settings == built.settings
        assert len(opened) == 40
        assert opened.search(queries, 7).to_dict() == built.search(queries, 7).to_dict()
        assert opened.explain(queries[0], documents[5]) == built.explain(queries[0], documents[5])


def test_the_order_of_weights_is_kept_on_disk(tmp_path: Path) -> None:
    documents = [Document("a", "gold", "iron"), Document("b", "iron", "gold")]
    built = BM25.build(documents, fields={"text": 3.0, "title": 1.0})
    built.save(tmp_path / "bm25")
    assert BM25.open(tmp_path / "bm25").search([Query("q", "gold")]).doc_ids("q") == ["a", "b"]


def test_a_filter_keeps_scores_and_order() -> None:
    documents = [Document(str(n), "gold " * (n % 5 + 1), metadata={"even": n % 2 == 0}) for n in range(50)]
    bm25, query = BM25.build(documents), Query("q", "gold")
    whole = bm25.search([query], 50)
    kept = bm25.search([query], 10, filter=lambda document: bool(document.metadata["even"]))
    expected = [(hit.doc_id, hit.score) for hit in whole["q"] if int(hit.doc_id) % 2 == 0][:10]
    assert [(hit.doc_id, hit.score) for hit in kept["q"]] == expected
    assert bm25.search([query], 10, filter=lambda document: False)["q"] == ()


def test_a_filter_asks_no_more_than_it_needs() -> None:
    asked: list[str] = []

    def keep(document: Document) -> bool:
        asked.append(document.id)
        return True

    documents = [Document(str(n), "gold") for n in range(1000)]
    BM25.build(documents).search([Query("1", "gold"), Query("2", "gold")], 10, filter=keep)
    assert len(asked) == 10


def test_a_filter_needs_documents(tmp_path: Path) -> None:
    BM25.build([Document("a", "gold")]).save(tmp_path / "bm25")
    with pytest.raises(UsageError, match="filter"):
        BM25.open(tmp_path / "bm25").search([Query("q", "gold")], filter=lambda document: True)


def test_metadata_may_be_a_field() -> None:
    documents = [Document("a", "x", metadata={"tags": ["gold", "iron"]}), Document("b", "gold", metadata={"year": 7})]
    bm25 = BM25.build(documents, fields={"tags": 1.0})
    assert bm25.search([Query("q", "gold")]).doc_ids("q") == ["a"]


def test_documents_without_words_are_never_hits() -> None:
    bm25 = BM25.build([Document("a", ""), Document("b", "?!")])
    assert bm25.search([Query("q", "anything"), Query("", "")]).to_dict() == {"q": {}, "": {}}


@pytest.mark.parametrize(
    ("language", "question", "text"),
    [
        ("german", "Häuser", "Das Haus am See"),
        ("french", "chevaux", "Il aimait son cheval"),
        ("spanish", "perdidas", "La ciudad perdida"),
        ("finnish", "taloissa", "talo"),
        ("none", "GOLD", "gold"),
        ("english", "Priestley's discoveries", "Priestley discovered"),
        ("english", "cafe\u0301", "café"),
    ],
)
def test_languages_find_inflected_words(language: str, question: str, text: str) -> None:
    bm25 = BM25.build([Document("other", "unrelated 123"), Document("hit", text)], language=language)
    assert bm25.search([Query("q", question)]).doc_ids("q")[:1] == ["hit"]


def test_every_language_can_be_used() -> None:
    for language in languages():
        assert Analyzer(language)("1610") == ["1610"]


def test_progress_ends_with_all() -> None:
    seen: list[tuple[int, int]] = []
    BM25.build([Document(str(n), "x") for n in range(2500)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"fields": "title"}, "flat"),
        ({"fields": {}}, "at least one field"),
        ({"fields": {"title": 0.0}}, "above 0"),
        ({"fields": {"title": float("nan")}}, "above 0"),
        ({"language": "klingon"}, "klingon"),
        ({"k1": -1.0}, "k1"),
        ({"b": 1.5}, "b=1.5"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        BM25.build([Document("a", "gold")], **settings)  # type: ignore[arg-type]


def test_bad_documents_are_refused() -> None:
    with pytest.raises(UsageError, match="no document"):
        BM25.build([])
    with pytest.raises(UsageError, match="'a' occurs twice"):
        BM25.build([Document("a", "gold"), Document("a", "iron")])
    with pytest.raises(UsageError, match="not over any documents"):
        BM25().search([Query("q", "gold")])
    bm25 = BM25.build([Document("a", "gold")])
    with pytest.raises(UsageError, match="'b' is not in this"):
        bm25.explain(Query("q", "gold"), Document("b", "gold"))


def test_torn_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    bm25 = BM25.build([Document("a", "gold")])
    bm25.save(tmp_path / "bm25")
    with pytest.raises(ArtefactError, match="already"):
        bm25.save(tmp_path / "bm25")
    torn = tmp_path / "torn"
    shutil.copytree(tmp_path / "bm25", torn)
    data = torn / "field-0" / "data.csc.index.npy"
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(ArtefactError, match="bytes"):
        BM25.open(torn)
    with pytest.raises(ArtefactError, match="no such folder"):
        BM25.open(tmp_path / "nowhere")


class OtherCorpus(list[Document]):
    fingerprint = "f" * 64

    def at(self, number: int) -> Document:
        return self[number]


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    bm25 = BM25.build(OtherCorpus([Document("a", "gold")]))
    assert bm25.search([Query("q", "gold")]).fingerprint == "f" * 64
    bm25.save(tmp_path / "bm25")
    other = OtherCorpus([Document("a", "gold")])
    other.fingerprint = "0" * 64
    with pytest.raises(MismatchError, match="another corpus"):
        BM25.open(tmp_path / "bm25", other)
    longer = OtherCorpus([Document("a", "gold"), Document("b", "iron")])
    with pytest.raises(MismatchError, match="1 documents"):
        BM25.open(tmp_path / "bm25", longer)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bm25 = BM25.build([Document(str(n), "gold iron") for n in range(5)])
    bm25.save(tmp_path / "bm25")
    BM25.open(tmp_path / "bm25").search([Query("q", "gold")])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_scores_do_not_overflow_single_precision_order() -> None:
    documents = [Document(str(n), " ".join(WORDS[: n % 8 + 1]) + f" filler{n}") for n in range(200)]
    run = BM25.build(documents).search([Query("q", " ".join(WORDS))], 200)
    assert np.all(np.diff(run.scores("q")) <= 0)
