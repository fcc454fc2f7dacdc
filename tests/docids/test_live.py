"""Live docids are at every moment those of the documents added and not removed, whatever becomes of the process."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retgen import store
from retgen.docids.changes import Docids
from retgen.docids.live import LiveDocids
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.table import DocidMakeUp, DocidTable
from retgen.errors import ArtefactError, LockedError, MismatchError, UnknownDocumentError, UsageError
from tests.docids.live_writer import after
from tests.docids.tokenizers import WORDS, word_tokenizer
from tests.docids.trees import EOS, check_equal

names = st.sampled_from([f"d{number}" for number in range(12)])
bodies = st.lists(st.sampled_from([0, 2, 3, 65_536]), min_size=1, max_size=4).map(lambda body: [*body, EOS])
batches = st.dictionaries(names, bodies, min_size=1, max_size=4)


def table_of(documents: Mapping[str, Sequence[int]], lineage: Mapping[str, str] | None = None) -> DocidTable:
    return DocidTable.from_token_ids(
        list(documents),
        [f"text of {name}" for name in documents],
        [np.array(docid, dtype=np.int32) for docid in documents.values()],
        make_up=DocidMakeUp("title", max_length=8, eos_token_id=EOS),
        lineage=lineage or {},
    ).sealed()


def rows(documents: Mapping[str, Sequence[int]]) -> list[tuple[str, str, Sequence[int]]]:
    return [(name, f"text of {name}", docid) for name, docid in documents.items()]


def check(found: Docids, documents: Mapping[str, Sequence[int]]) -> None:
    table, tree = found
    numbers = {name: table.number(name) for name in documents}
    check_equal(tree, {numbers[name]: docid for name, docid in documents.items()})
    assert sorted(numbers.values()) == table.present.tolist()
    for name, number in numbers.items():
        assert (table.doc_id(number), table.text(number)) == (name, f"text of {name}")
        assert table.token_ids(number) == list(documents[name])
        assert table.tokens[table.offsets[number] : table.offsets[number + 1]].tolist() == list(documents[name])
    keys = [tuple(docid) for docid in documents.values()]
    sharing = {name for name, docid in documents.items() if keys.count(tuple(docid)) > 1}
    assert {name for group in table.collisions for name in group} == sharing


class LiveMachine(RuleBasedStateMachine):
    """A writer and a reader of one folder, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.path = Path(self.home.name) / "docids"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("retgen.docids.changes.MERGE_FROM", 12)  # merges come of themselves, too
        self.documents: dict[str, list[int]] = {}
        self.before: tuple[Docids, dict[str, list[int]]] | None = None

    @initialize(first=batches)
    def create(self, first: dict[str, list[int]]) -> None:
        self.documents = dict(first)
        self.live = LiveDocids.create(self.path, table_of(first))
        self.reader = LiveDocids.open(self.path)

    @rule(batch=batches)
    def add(self, batch: dict[str, list[int]]) -> None:
        if batch.keys() & self.documents.keys():
            with pytest.raises(UsageError, match="is there already"):
                self.live.add_token_ids(rows(batch))
            return
        self.live.add_token_ids(rows(batch))
        self.documents |= batch

    @rule(names=st.sets(names, min_size=1, max_size=4))
    def remove(self, names: set[str]) -> None:
        if names - self.documents.keys():
            with pytest.raises(UnknownDocumentError):
                self.live.remove(sorted(names))
            return
        self.live.remove(sorted(names))
        for name in names:
            del self.documents[name]

    @rule()
    def merge(self) -> None:
        self.live.merge()

    @rule()
    def reopen(self) -> None:
        self.live.close()
        self.live = LiveDocids.open(self.path, write=True, verify=True)

    @rule()
    def keep(self) -> None:
        self.before = self.live.docids, dict(self.documents)

    @rule()
    def read_what_was_kept(self) -> None:
        if self.before is not None:
            found, documents = self.before
            check(found, documents)

    @rule()
    def refresh(self) -> None:
        self.reader.refresh()
        check(self.reader.docids, self.documents)
        assert not self.reader.refresh()

    @invariant()
    def is_right(self) -> None:
        if self.documents or self.path.exists():
            check(self.live.docids, self.documents)
            assert len(self.live) == len(self.documents)

    def teardown(self) -> None:
        if self.path.exists():
            self.live.close()
        self.patch.undo()
        self.home.cleanup()


LiveMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestLiveMachine = LiveMachine.TestCase


@pytest.mark.slow
def test_killed_at_any_moment_no_change_is_lost_or_half_made(tmp_path: Path) -> None:
    path = tmp_path / "docids"
    LiveDocids.create(path, table_of(after(0))).close()
    chance = random.Random(0)
    done = 0
    for _ in range(6):
        command = [sys.executable, "-m", "tests.docids.live_writer", str(path), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 9)):
                done = int(writer.stdout.readline())
            time.sleep(chance.random() * 0.05)
            writer.kill()
            done = max([done, *map(int, writer.stdout.read().split())])
        with LiveDocids.open(path, write=True, verify=True) as live:
            table, tree = live.docids
            found = {table.doc_id(number): table.token_ids(number) for number in table.present}
            # The change after the last acknowledged one adds a document, then may remove one.
            begun = after(done) | {name: docid for name, docid in after(done + 1).items() if name not in after(done)}
            assert found in (after(done), begun, after(done + 1))
            check_equal(tree, {table.number(name): docid for name, docid in found.items()})


def test_with_a_tokenizer(tmp_path: Path) -> None:
    first = [("a", "mars"), ("b", "red planet")]
    made = DocidTable.build(first, word_tokenizer(), max_length=3, corpus_fingerprint="1")
    path = tmp_path / "docids"
    with LiveDocids.create(path, made) as live:
        live.add([("c", "red moon red moon"), ("d", "io </s>")], word_tokenizer(), corpus_fingerprint="2")
        with pytest.raises(MismatchError, match="another tokenizer"):
            live.add([("e", "mars")], word_tokenizer((*WORDS, "venus")))
        with pytest.raises(UsageError, match="'e' has an empty docid"):
            live.add([("e", " ")], word_tokenizer())
    live = LiveDocids.open(path, tokenizer=word_tokenizer(), corpus_fingerprint="2")
    whole = DocidTable.build(
        [*first, ("c", "red moon red moon"), ("d", "io </s>")],
        word_tokenizer(),
        max_length=3,
        corpus_fingerprint="2",
    )
    assert live.table.make_up == whole.make_up
    assert [live.table.token_ids(number) for number in range(4)] == [whole.token_ids(number) for number in range(4)]
    assert live.tree.lineage == {name: whole.lineage[name] for name in ("tokenizer", "corpus")}
    with pytest.raises(MismatchError, match="another corpus"):
        LiveDocids.open(path, corpus_fingerprint="1")
    with pytest.raises(MismatchError, match="another tokenizer"):
        LiveDocids.open(path, tokenizer=word_tokenizer((*WORDS, "venus")))
    with LiveDocids.open(path, write=True) as live:
        live.merge()
        assert live.table.lineage == whole.lineage
        live.remove(["a"])
    assert "corpus" not in LiveDocids.open(path).table.lineage  # nobody said what the corpus is now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    LiveDocids.create(tmp_path / "docids", table_of({"a": [5, EOS], "b": [6, 7, EOS]})).close()
    return tmp_path / "docids"


@pytest.mark.parametrize(
    ("docid", "message"),
    [
        ([], "no tokens"),
        ([EOS, 5, EOS], "last token, and only that"),
        ([5], "last token"),
        ([-3, EOS], "negative"),
        ([2**31, EOS], "above"),
        ([2] * 8 + [EOS], "9 tokens"),
    ],
)
def test_a_docid_that_is_none_changes_nothing(path: Path, docid: list[int], message: str) -> None:
    with LiveDocids.open(path, write=True) as live:
        with pytest.raises(UsageError, match=message):
            live.add_token_ids([("good", "good", [5, EOS]), ("bad", "bad", docid)])
        assert "good" not in live
        with pytest.raises(UsageError, match="'c' is there already"):
            live.add_token_ids([("c", "", [5, EOS]), ("c", "", [6, EOS])])
        with pytest.raises(UsageError, match="removed twice"):
            live.remove(["a", "a"])
        with pytest.raises(UsageError, match="Unicode"):
            live.add_token_ids([("\ud800", "", [5, EOS])])
        live.add_token_ids([])
    assert not (path / "changes.journal").exists()


def test_one_process_changes_many_read(path: Path) -> None:
    with LiveDocids.open(path, write=True) as live:
        with pytest.raises(LockedError, match="open for changes"):
            LiveDocids.open(path, write=True)
        with pytest.raises(LockedError, match="open for changes"):
            LiveDocids.create(path, table_of({"x": [5, EOS]}), overwrite=True)
        with pytest.raises(UsageError, match="opened to be read"):
            LiveDocids.open(path).remove(["a"])
        live.remove(["a"])
    with pytest.raises(UsageError, match="opened to be read"):
        live.remove(["b"])
    LiveDocids.open(path, write=True).close()


def test_all_documents_may_go_and_others_come(path: Path) -> None:
    with LiveDocids.open(path, write=True) as live:
        live.remove(["a", "b"])
        check(live.docids, {})
        live.merge()
        assert not live.merge_is_due
    with LiveDocids.open(path, write=True) as live:
        check(live.docids, {})
        live.add_token_ids(rows({"b": [9, EOS]}))
        live.merge()
        check(live.docids, {"b": [9, EOS]})


def test_when_a_merge_is_due(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retgen.docids.changes.MERGE_FROM", 4)
    with LiveDocids.open(path, write=True, auto_merge=False) as live:
        # Trees of 1, 2 and 3 added documents: six, as many as are built and four more.
        due = []
        for number in range(3):
            live.add_token_ids(rows({f"n{number}": [9, EOS]}))
            _ = live.tree, live.tree
            due.append(live.merge_is_due)
        assert due == [False, False, True]
        live.merge()
        assert not live.merge_is_due
        # A quarter of five, and four more.
        live.add_token_ids(rows({f"m{number}": [9, EOS] for number in range(4)}))
        assert not live.merge_is_due
        live.remove(["a"])
        assert live.merge_is_due


def test_torn_and_foreign_folders_are_refused(path: Path, tmp_path: Path) -> None:
    with LiveDocids.open(path, write=True) as live:
        live.remove(["a"])
    for name in ("tree/tails.npy", "table/tokens.npy"):
        file = path / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        with pytest.raises(ArtefactError):
            LiveDocids.open(path)
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ArtefactError, match="changed"):
            LiveDocids.open(path, verify=True)
        file.write_bytes(whole)
    other = tmp_path / "other"
    LiveDocids.create(other, table_of({"z": [5, EOS]})).close()
    (other / "changes.journal").write_bytes((path / "changes.journal").read_bytes())
    with pytest.raises(MismatchError, match="another build"):
        LiveDocids.open(other)
    PrefixTree.build([[5, EOS]], eos_token_id=EOS).save(tmp_path / "tree")
    with pytest.raises(ArtefactError, match="docid-tree"):
        LiveDocids.open(tmp_path / "tree")
    with pytest.raises(ArtefactError, match="no such folder"):
        LiveDocids.open(tmp_path / "nothing", write=True)


def test_a_folder_replaced_behind_the_writer_is_not_changed(path: Path) -> None:
    with LiveDocids.open(path, write=True) as live:
        with store.create(path, kind="live-docids", overwrite=True) as staging:
            table = table_of({"z": [5, EOS]})
            table.save(staging / "table")
            PrefixTree.from_table(table).save(staging / "tree")
        with pytest.raises(LockedError, match="replaced"):
            live.remove(["a"])
        assert live.refresh()
        check(live.docids, {"z": [5, EOS]})


def test_a_full_disk_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def half(handle: int, data: bytes, offset: int) -> int:
        write(handle, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    with LiveDocids.open(path, write=True) as live:
        live.remove(["a"])
        monkeypatch.setattr("os.pwrite", half)
        with pytest.raises(ArtefactError, match="disk is full"):
            live.remove(["b"])
        check(live.docids, {"b": [6, 7, EOS]})
        monkeypatch.undo()
        live.add_token_ids(rows({"c": [8, EOS]}))
    check(LiveDocids.open(path).docids, {"b": [6, 7, EOS], "c": [8, EOS]})
