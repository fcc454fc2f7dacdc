"""The docid table: texts become tokens that end, fit, and belong to one tokenizer and corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.docids.table import DocidTable
from retgen.errors import ArtefactError, MismatchError, UnknownDocumentError, UsageError
from tests.docids.naive import HashModel
from tests.docids.tokenizers import WORDS, word_tokenizer

EOS = 1
texts = st.lists(
    st.lists(st.sampled_from([*WORDS, "</s>", "<pad>"]), max_size=6).map(" ".join), min_size=1, max_size=20
)


def build(docids: list[str], **options: object) -> DocidTable:
    pairs = [(f"d{number}", text) for number, text in enumerate(docids)]
    return DocidTable.build(pairs, word_tokenizer(), **options)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(docids=texts, max_length=st.integers(2, 8))
def test_every_docid_ends_once_fits_and_makes_a_tree(docids: list[str], max_length: int) -> None:
    if any(not set(text.split()) & set(WORDS) for text in docids):
        with pytest.raises(UsageError, match="has an empty docid"):
            build(docids, max_length=max_length)
        return
    table = build(docids, max_length=max_length)
    words = [[word for word in text.split() if word in WORDS] for text in docids]
    for number, kept in enumerate(words):
        ids = table.token_ids(number)
        assert ids.count(EOS) == 1
        assert ids[-1] == EOS
        assert ids[:-1] == word_tokenizer().convert_tokens_to_ids(kept[: max_length - 1])
    assert table.make_up.cut == sum(len(kept) > max_length - 1 for kept in words)
    assert table.make_up.special_tokens_dropped == sum(
        text.split().count(s) for text in docids for s in ("</s>", "<pad>")
    )
    tree = PrefixTree.from_table(table)
    for leaf in range(tree.num_leaves):
        for number in tree.documents(leaf):
            assert tree.token_ids(leaf) == table.token_ids(int(number))


@settings(max_examples=100, deadline=None)
@given(docids=st.lists(st.sampled_from(["mars", "io", "red moon", "red planet", "a b c"]), min_size=1, max_size=12))
def test_collisions_are_the_documents_that_share_a_docid(docids: list[str]) -> None:
    table = build(docids, max_length=2)  # "red moon" and "red planet" collide once cut
    keys = [text.split()[0] for text in docids]
    sharing = {f"d{n}" for n, key in enumerate(keys) if keys.count(key) > 1}
    assert {doc_id for group in table.collisions for doc_id in group} == sharing
    assert table.collision_rate == pytest.approx(len(sharing) / len(docids))
    assert all(list(group) == sorted(group, key=table.number) for group in table.collisions)
    assert PrefixTree.from_table(table).num_leaves == len(set(keys))


def test_lookups() -> None:
    table = build(["mars", "red  planet"])
    assert (len(table), table.doc_id(1), table.number("d1"), table.text(1)) == (2, "d1", 1, "red  planet")
    assert table.doc_ids(np.array([1, 0])) == ["d1", "d0"]
    with pytest.raises(UnknownDocumentError, match="'dx'"):
        table.number("dx")
    assert table.padded([0, 1]).tolist() == [[*table.token_ids(0), -100], table.token_ids(1)]
    assert table.padded([]).shape == (0, 0)


def test_the_end_is_eos_or_sep_or_what_is_asked() -> None:
    bert_like = word_tokenizer(pad_token="[PAD]", sep_token="[SEP]")
    assert DocidTable.build([("d", "mars")], bert_like).token_ids(0)[-1] == bert_like.sep_token_id
    assert DocidTable.build([("d", "mars")], word_tokenizer(), eos_token_id=2).token_ids(0)[-1] == 2
    with pytest.raises(UsageError, match="neither an EOS nor a SEP"):
        DocidTable.build([("d", "mars")], word_tokenizer(pad_token="[PAD]"))


@pytest.mark.parametrize(
    ("docids", "message"),
    [
        ([], "no documents to name"),
        ([("a", "mars"), ("b", "   ")], "document 'b' has an empty docid under the scheme 'lead'"),
        ([("a", "mars"), ("a", "io")], "'a' occurs twice"),
    ],
)
def test_docids_that_make_no_table(docids: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DocidTable.build(docids, word_tokenizer(), scheme="lead")


def test_a_limit_without_room() -> None:
    with pytest.raises(UsageError, match="at least 2, not 1"):
        build(["mars"], max_length=1)


def test_more_documents_than_one_batch() -> None:
    table = build([f"{WORDS[n % 12]} {WORDS[n // 12 % 12]}" for n in range(2500)])
    assert len(table) == 2500
    assert table.text(2499) == table.text(2499 - 144)
    assert table.number("d2499") == 2499


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DocidTable]:
    table = build(["mars", "red planet", "mars"], corpus_fingerprint="one corpus", scheme="title")
    table.save(tmp_path / "table")
    return tmp_path / "table", table


def test_round_trip_over_the_disk(saved: tuple[Path, DocidTable]) -> None:
    path, table = saved
    loaded = DocidTable.load(path, tokenizer=word_tokenizer(), corpus_fingerprint="one corpus", verify=True)
    assert (loaded.make_up, loaded.lineage) == (table.make_up, table.lineage)
    assert [loaded.token_ids(n) for n in range(3)] == [table.token_ids(n) for n in range(3)]
    assert [(loaded.doc_id(n), loaded.text(n)) for n in range(3)] == [
        (table.doc_id(n), table.text(n)) for n in range(3)
    ]
    assert loaded.collisions == (("d0", "d2"),)


@pytest.mark.parametrize(
    "other",
    [word_tokenizer((*WORDS, "venus")), word_tokenizer(tuple(reversed(WORDS))), word_tokenizer(("The", *WORDS[:-1]))],
)
def test_another_tokenizer_is_refused(saved: tuple[Path, DocidTable], other: object) -> None:
    with pytest.raises(MismatchError, match="another tokenizer"):
        DocidTable.load(saved[0], tokenizer=other)  # type: ignore[arg-type]


def test_one_vocabulary_used_in_another_way_is_another_tokenizer(tmp_path: Path) -> None:
    words = (*WORDS, "quick", "brown", "The")
    DocidTable.build([("d", "mars")], word_tokenizer(words)).save(tmp_path / "table")
    with pytest.raises(MismatchError, match="another tokenizer"):
        DocidTable.load(tmp_path / "table", tokenizer=word_tokenizer(words, lower=True))


def test_a_saved_and_loaded_tokenizer_is_the_same(saved: tuple[Path, DocidTable], tmp_path: Path) -> None:
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    again = type(word_tokenizer()).from_pretrained(tmp_path / "tokenizer")
    again(["mars", "red planet"], padding=True, truncation=True, max_length=2)  # use leaves no mark
    DocidTable.load(saved[0], tokenizer=again)


def test_another_corpus_is_refused(saved: tuple[Path, DocidTable]) -> None:
    with pytest.raises(MismatchError, match="another corpus"):
        DocidTable.load(saved[0], corpus_fingerprint="another")


@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "documents.arrow"])
def test_a_torn_file_is_refused(saved: tuple[Path, DocidTable], name: str) -> None:
    file = saved[0] / name
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ArtefactError):
        DocidTable.load(saved[0])


def test_a_tree_belongs_to_its_table(saved: tuple[Path, DocidTable], tmp_path: Path) -> None:
    _, table = saved
    PrefixTree.from_table(table).save(tmp_path / "tree")
    assert PrefixTree.load(tmp_path / "tree", table=table).num_documents == 3
    pairs = [("d0", "mars"), ("d1", "red planet"), ("d2", "mars")]
    other_tokenizer = DocidTable.build(pairs, word_tokenizer((*WORDS, "venus")), corpus_fingerprint="one corpus")
    with pytest.raises(MismatchError, match="with another tokenizer"):
        PrefixTree.load(tmp_path / "tree", table=other_tokenizer)
    with pytest.raises(MismatchError, match="from another corpus"):
        PrefixTree.load(tmp_path / "tree", table=build(["mars", "red planet", "mars"], corpus_fingerprint="other"))
    with pytest.raises(MismatchError, match="from other docids"):
        PrefixTree.load(tmp_path / "tree", table=build(["mars", "red moon", "mars"], corpus_fingerprint="one corpus"))


def test_hits_become_a_run(saved: tuple[Path, DocidTable]) -> None:
    _, table = saved
    hits = search(HashModel(2, 20), PrefixTree.from_table(table), start_token_id=0, num_beams=4, k=3)
    run = hits.to_run(["q1", "q2"], table)
    assert run.fingerprint == "one corpus"
    for query_id in ("q1", "q2"):
        assert sorted(run.doc_ids(query_id)) == ["d0", "d1", "d2"]
        scores = dict(zip(run.doc_ids(query_id), run.scores(query_id), strict=True))
        assert scores["d0"] == scores["d2"] < 0  # one docid, one score
        assert run.doc_ids(query_id).index("d0") < run.doc_ids(query_id).index("d2")  # in corpus order
