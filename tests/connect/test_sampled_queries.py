"""Pseudo queries of a generator: what is sampled, what a cross-encoder keeps, and a file that is gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from retgen.connect.sampled import Sampling, sampled_queries, write_sampled_queries
from retgen.errors import ArtefactError, MismatchError, RetgenError, UsageError
from retgen.formats import read_triplets
from retgen.models.query_generator import QueryGenerator
from retgen.types import Document, Triplet
from tests.models.generators import PASSAGES, seq2seq

DOCUMENTS = [
    Document(f"{item.id}{n}", f"{item.text} {n}", item.title) for n in range(50) for item in PASSAGES if item.text
]
SAMPLING = Sampling(number=3, top_k=5, seed=1)


@pytest.fixture(scope="module")
def generator() -> QueryGenerator:
    model, tokenizer = seq2seq("t5")
    return QueryGenerator(model, tokenizer, "jpr", device="cpu", max_passage_tokens=32)


class Short:
    """The same generator with queries of few tokens, counted."""

    def __init__(self, generator: QueryGenerator, stop_after: int = 10**9) -> None:
        self.generator, self.left, self.read = generator, stop_after, 0

    def sample(
        self, passages: Sequence[Document], n: int, *, top_k: int, temperature: float, seed: int, unique: bool
    ) -> list[list[str]]:
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.read += len(passages)
        return self.generator.sample(
            passages, n, top_k=top_k, temperature=temperature, seed=seed, unique=unique, max_new_tokens=5
        )


def by_length(pairs: Sequence[tuple[str, str]]) -> list[float]:
    return [float(len(text)) for text, _ in pairs]


def texts(made: list[list[Triplet]]) -> list[list[str]]:
    return [[triplet.query.text for triplet in row] for row in made]


def test_they_are_the_generators_samples_each_about_its_document(generator: QueryGenerator) -> None:
    short = Short(generator)
    made, dropped = sampled_queries(DOCUMENTS[:8], short, SAMPLING)
    expected = generator.sample(DOCUMENTS[:8], 3, top_k=5, seed=1, unique=True, max_new_tokens=5)
    assert texts(made) == [[text for text in row if text.strip()] for row in expected]
    assert dropped == 0
    for document, row in zip(DOCUMENTS, made, strict=False):
        assert [triplet.query.id for triplet in row] == [f"{document.id}::pq{n}" for n in range(len(row))]
        assert all(triplet.doc_ids == (document.id,) for triplet in row)
    # Another seed writes others; a document's do not depend on the other documents.
    assert texts(sampled_queries(DOCUMENTS[:8], short, Sampling(number=3, top_k=5, seed=2))[0]) != texts(made)
    assert texts(sampled_queries(DOCUMENTS[3:4], short, SAMPLING)[0]) == texts(made)[3:4]


def test_a_cross_encoder_keeps_the_best_in_their_order(generator: QueryGenerator) -> None:
    short = Short(generator)
    whole = texts(sampled_queries(DOCUMENTS[:8], short, SAMPLING)[0])
    kept, dropped = sampled_queries(DOCUMENTS[:8], short, Sampling(3, 5, seed=1, keep=1), by_length)
    for row, of in zip(texts(kept), whole, strict=True):
        assert row == ([max(of, key=len)] if of else [])
    assert dropped == sum(map(len, whole)) - sum(map(len, kept)) > 0
    line = sorted(len(text) for row in whole for text in row)[10]
    kept, _ = sampled_queries(DOCUMENTS[:8], short, Sampling(3, 5, seed=1, min_score=float(line)), by_length)
    assert texts(kept) == [[text for text in row if len(text) >= line] for row in whole]
    for sampling, scorer in ((SAMPLING, by_length), (Sampling(keep=1), None)):
        with pytest.raises(UsageError, match="cross-encoder"):
            sampled_queries(DOCUMENTS[:1], short, sampling, scorer)


def test_a_stopped_file_is_gone_on_with(generator: QueryGenerator, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    counts = write_sampled_queries(whole, DOCUMENTS, Short(generator), SAMPLING, made_by={"model": "t5"})
    assert counts.documents == len(DOCUMENTS) > 2 * 64
    assert counts.queries == len(list(read_triplets(whole)))
    with pytest.raises(KeyboardInterrupt):
        write_sampled_queries(stopped, DOCUMENTS, Short(generator, 1), SAMPLING, made_by={"model": "t5"})
    assert not stopped.exists()
    partial = tmp_path / ".stopped.jsonl.partial"
    with partial.open("ab") as torn:  # killed while it wrote the next block
        torn.write(b'{"id": "x::pq0", "question": "cut o')
    rest = Short(generator)
    seen: list[int] = []
    again = write_sampled_queries(stopped, DOCUMENTS, rest, SAMPLING, made_by={"model": "t5"}, progress=seen.append)
    assert rest.read == len(DOCUMENTS) - 64
    assert seen[-1] == len(DOCUMENTS)
    assert again == counts
    assert stopped.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.jsonl", "whole.jsonl"]


def test_what_was_begun_otherwise_is_not_gone_on_with(generator: QueryGenerator, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    partial = tmp_path / ".out.jsonl.partial"

    def begin() -> None:
        with pytest.raises(KeyboardInterrupt):
            write_sampled_queries(path, DOCUMENTS, Short(generator, 1), SAMPLING, resume=False)

    begin()
    with pytest.raises(MismatchError, match=r"other settings .seed"):
        write_sampled_queries(path, DOCUMENTS, Short(generator), Sampling(3, 5, seed=9))
    for others in (DOCUMENTS[1:], DOCUMENTS[:10]):
        with pytest.raises(MismatchError, match="other documents"):
            write_sampled_queries(path, others, Short(generator), SAMPLING)
    partial.write_bytes(b"\x00")
    with pytest.raises(ArtefactError, match="cannot be read"):
        write_sampled_queries(path, DOCUMENTS, Short(generator), SAMPLING)
    few = write_sampled_queries(path, DOCUMENTS[:3], Short(generator), SAMPLING, resume=False)
    assert few.documents == 3
    with pytest.raises(RetgenError, match="no documents"):
        write_sampled_queries(path, [], Short(generator), SAMPLING)
    assert path.exists()


@pytest.mark.parametrize("options", [{"number": 0}, {"top_k": 0}, {"temperature": 0.0}, {"keep": -1}, {"seed": -1}])
def test_numbers_that_cannot_be(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Sampling(**options)  # type: ignore[arg-type]


class Bytes:
    """Writes what a tokenizer of bytes may."""

    def sample(
        self, passages: Sequence[Document], n: int, *, top_k: int, temperature: float, seed: int, unique: bool
    ) -> list[list[str]]:
        return [["who\0 asks?", "\0"] for _ in passages]


def test_what_is_no_text_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "pseudo.jsonl"
    write_sampled_queries(path, DOCUMENTS[:2], Bytes(), SAMPLING)
    assert [triplet.query.text for triplet in read_triplets(path)] == ["who  asks?"] * 2
