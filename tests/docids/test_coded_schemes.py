"""Docids that are codes: near documents share them, other documents have others, and they are written as one reads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.clustering import cluster_codes, product_codes
from retgen.docids.coded_schemes import CodedScheme, IntegerScheme, ProductScheme, SemanticScheme
from retgen.docids.codes import CodeAlphabet, read_code
from retgen.docids.schemes import docid_scheme, permuted
from retgen.docids.table import DocidTable
from retgen.errors import UsageError
from retgen.models.docid_tokens import add_docid_tokens
from retgen.models.scratch import train_tokenizer
from retgen.types import Document

pytest.importorskip("faiss")


def corpus(count: int) -> list[Document]:
    return [Document(f"d{number}", f"text {number}") for number in range(count)]


def topics(count: int = 240, width: int = 16, groups: int = 12, seed: int = 0) -> np.ndarray:
    """Embeddings around a dozen centres, in no order."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(groups, width))
    return (centres[chance.integers(groups, size=count)] + 0.3 * chance.normal(size=(count, width))).astype(np.float32)


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _nearest(rows: np.ndarray) -> np.ndarray:
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


@pytest.mark.parametrize("scheme", ["semantic", "pq"])
def test_near_documents_share_more_of_their_docids_than_chance(scheme: str) -> None:
    """The defining idea of both: with the docids permuted over the documents nothing is left of it."""
    rows = topics()
    options: dict[str, Any] = {"clusters": 4, "leaf": 6} if scheme == "semantic" else {"groups": 4, "codes": 8}
    named = list(docid_scheme(scheme, vectors=rows, **options)(corpus(len(rows))))
    neighbours = _nearest(rows)

    def shared_with_neighbours(docids: list[tuple[str, str]]) -> float:
        codes = [read_code(text) for _, text in docids]
        if scheme == "semantic":
            return float(np.mean([shared(code, codes[n]) for code, n in zip(codes, neighbours, strict=True)]))
        return float(np.mean([np.equal(code, codes[n]).sum() for code, n in zip(codes, neighbours, strict=True)]))

    chance = [shared_with_neighbours(list(permuted(named, seed))) for seed in range(5)]
    assert shared_with_neighbours(named) > 2 * max(chance)


def test_product_codes_rebuild_the_embeddings_better_than_random_codes() -> None:
    rows = topics()
    found = product_codes(rows, groups=4, codes=16)
    chance = np.random.default_rng(1)
    errors = [((found.decoded(codes) - rows) ** 2).mean() for codes in (found.codes, chance.permutation(found.codes))]
    random = ((found.decoded(chance.integers(16, size=found.codes.shape)) - rows) ** 2).mean()
    assert errors[0] < 0.25 * min(errors[1], random)
    # Each number is that of the nearest centroid: no other would do better.
    for group in range(4):
        part = rows.reshape(len(rows), 4, -1)[:, group]
        nearest = ((part[:, None] - found.centroids[group][None]) ** 2).sum(axis=2).argmin(axis=1)
        assert (nearest == found.codes[:, group]).mean() > 0.99
    more = product_codes(rows, groups=8, codes=16)
    assert ((more.decoded() - rows) ** 2).mean() < errors[0]


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=60),
    clusters=st.integers(2, 5),
    leaf=st.integers(1, 7),
)
def test_cluster_codes_name_one_document_each_and_none_begins_another(
    rows: list[tuple[int, int]], clusters: int, leaf: int
) -> None:
    """Also where k-means cannot tell documents apart."""
    codes = cluster_codes(np.array(rows, dtype=np.float32), clusters=clusters, leaf=leaf)
    assert len(set(codes)) == len(codes) == len(rows)
    assert not any(one == other[: len(one)] for one in codes for other in codes if one is not other)
    assert all(max(code[:-1], default=0) < clusters and code[-1] < leaf for code in codes)
    below: dict[tuple[int, ...], list[int]] = {}
    for number, code in enumerate(codes):
        below.setdefault(code[:-1], []).append(number)
    # The documents of a leaf are numbered in corpus order, without gaps.
    assert all([codes[number][-1] for number in members] == [*range(len(members))] for members in below.values())


def test_equal_embeddings_by_the_hundred_end() -> None:
    codes = cluster_codes(np.ones((300, 4)), clusters=3, leaf=2)
    assert len(set(codes)) == 300
    assert max(map(len, codes)) <= 8


def test_one_seed_gives_one_result() -> None:
    rows = topics(seed=3)
    assert cluster_codes(rows, clusters=4, leaf=5, seed=1) == cluster_codes(rows, clusters=4, leaf=5, seed=1)
    assert cluster_codes(rows, clusters=4, leaf=5, seed=1) != cluster_codes(rows, clusters=4, leaf=5, seed=2)
    one, same, other = (product_codes(rows, groups=4, codes=16, seed=seed).codes for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_documents_of_one_code_share_it_or_are_told_apart() -> None:
    rows = np.repeat(topics(40), 2, axis=0)
    together = [text for _, text in ProductScheme(rows, groups=4, codes=8)(corpus(80))]
    assert together[::2] == together[1::2]
    apart = ProductScheme(rows, groups=4, codes=8, distinct=True).coded(corpus(80))
    codes = [read_code(text) for _, text in apart.pairs]
    assert len(set(codes)) == 80
    assert [code[:4] for code in codes[::2]] == [code[:4] for code in codes[1::2]]
    assert apart.alphabet.sizes[:4] == (8,) * 4
    assert apart.alphabet.sizes[4] == max(code[4] for code in codes) + 1


def test_codes_are_written_as_tokens_of_place_and_number_or_as_digits() -> None:
    rows = topics(60)
    coded = SemanticScheme(rows, clusters=3, leaf=11).coded(corpus(60))
    codes = [read_code(text) for _, text in coded.pairs]
    assert codes == cluster_codes(rows, clusters=3, leaf=11)
    tokens = coded.alphabet.tokens()
    assert len(set(tokens)) == len(tokens) == 11 * max(map(len, codes))
    in_digits = SemanticScheme(rows, clusters=3, leaf=11, alphabet="digits").coded(corpus(60))
    assert in_digits.alphabet.tokens() == []
    assert dict(in_digits.pairs)["d0"] == " ".join("".join(map(str, codes[0][:-1])) + f"{codes[0][-1]:02}")
    assert len({text for _, text in in_digits.pairs}) == 60


def test_a_tokenizer_writes_each_number_of_a_code_as_one_token() -> None:
    tokenizer = train_tokenizer(["<0:1> is", " ".join("0123456789"), "text"] * 9, 320)
    before = len(tokenizer)
    alphabet = CodeAlphabet((4, 4, 4))
    assert add_docid_tokens(tokenizer, alphabet.tokens()) == range(before, before + 12)
    table = DocidTable.build([("a", alphabet.text((3, 0, 2))), ("b", alphabet.text((1,)))], tokenizer)
    assert table.token_ids(0) == [before + 3, before + 4 + 0, before + 8 + 2, tokenizer.eos_token_id]
    assert len(table.token_ids(1)) == 2
    digits = DocidTable.build(IntegerScheme()(corpus(120)), tokenizer)
    assert [len(digits.token_ids(number)) for number in (0, 10, 119)] == [2, 3, 4]


def test_schemes_with_codes_say_so() -> None:
    rows = topics(20)
    assert isinstance(SemanticScheme(rows), CodedScheme)
    assert isinstance(ProductScheme(rows), CodedScheme)
    assert not isinstance(IntegerScheme(), CodedScheme)


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("semantic", {}, "needs an embedding of every document"),
        ("semantic", {"vectors": np.zeros((3, 2))}, "3 embeddings for 5 documents"),
        ("semantic", {"vectors": np.zeros(5)}, r"shape \(5,\)"),
        ("semantic", {"vectors": np.full((5, 2), np.nan)}, "not finite"),
        ("semantic", {"vectors": np.zeros((5, 2)), "clusters": 1}, "1 clusters"),
        ("semantic", {"vectors": np.zeros((5, 2)), "alphabet": "greek"}, "position, digits"),
        ("pq", {"vectors": np.zeros((5, 6)), "groups": 4, "codes": 4}, "Choose one of 1, 2, 3, 6"),
        ("pq", {"vectors": np.zeros((5, 6)), "groups": 3, "codes": 256}, "Choose 4 codes at most"),
        ("pq", {"vectors": np.zeros((5, 6)), "groups": 3, "codes": 3}, "power of 2"),
    ],
)
def test_codes_that_cannot_be_made(scheme: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(docid_scheme(scheme, **options)(corpus(5)))


@pytest.mark.parametrize("code", [(), (3,), (0, 1, 0), (-1,)])
def test_codes_outside_of_their_alphabet_are_refused(code: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="does not fit"):
        CodeAlphabet((3, 3)).text(code)
    with pytest.raises(UsageError, match="is no code"):
        read_code("<1:0>")


def test_faiss_warns_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """It would write to the terminal from below Python when a cluster has few documents."""
    cluster_codes(topics(50), clusters=5, leaf=2)
    product_codes(topics(50), groups=4, codes=32)
    assert capfd.readouterr() == ("", "")
