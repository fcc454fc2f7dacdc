"""A UniGen finds at every moment the documents added and not removed, whatever becomes of its process."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retgen import store
from retgen.connect.offline import OfflineWriter
from retgen.docids.table import DocidTable
from retgen.errors import ArtefactError, LockedError, MismatchError, UnknownDocumentError, UsageError
from retgen.generative import UniGen
from retgen.generative.over_index import open_unigen
from retgen.index import Index
from retgen.types import Document, Run
from tests.generative.unigen_writer import after
from tests.train.toy import CORPUS, DOCID_TEXTS, DOCUMENTS, contexts, toy_system

TEXTS = ["Iron", "Iron bell", "Gold", "The Nile", "Mars moon", "Mount Everest"]
names = st.sampled_from([f"d{number}" for number in range(9)])
batches = st.dictionaries(names, st.sampled_from(TEXTS), min_size=1, max_size=3)
ASKED = contexts()[:2]
STRATEGIES = ("beam", "lookahead", "exact")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    toy_system().save(path)
    return path


@pytest.fixture
def path(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "model")
    return tmp_path / "model"


def opened(path: Path, *, write: bool = False) -> UniGen:
    return UniGen.open(path, device="cpu", write=write)


def searching(system: UniGen, strategy: str, documents: int) -> Run:
    """All that a system finds, with beams for all of it."""
    before = system.settings
    system.settings = replace(before, num_beams=documents + 2, docid_strategy=strategy, max_expansions=10_000)
    try:
        return system.search(ASKED, documents + 2)
    finally:
        system.settings = before


def check(system: UniGen, documents: dict[str, str], strategies: Sequence[str] = STRATEGIES) -> None:
    """The system finds these documents, with the scores of one whose docids were made anew."""
    runs = [searching(system, strategy, len(documents)) for strategy in strategies]
    assert all(sorted(run.doc_ids(query.id)) == sorted(documents) for run in runs for query in ASKED)
    if not documents:
        return
    table = DocidTable.build(documents.items(), system.tokenizer)
    anew = UniGen(system.model, system.tokenizer, table, settings=system.settings, device="cpu")
    expected = searching(anew, "beam", len(documents))
    ranked = system.rerank(ASKED, expected, CORPUS)
    for query in ASKED:
        wanted = {hit.doc_id: hit.score for hit in expected[query.id]}
        for run in (*runs, ranked):
            assert {hit.doc_id: hit.score for hit in run[query.id]} == pytest.approx(wanted, abs=1e-4)


class LivingMachine(RuleBasedStateMachine):
    """A writer and a reader of one model, against a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.path = Path(self.home.name) / "model"
        self.documents: dict[str, str] = {}
        self.writer: UniGen | None = None

    @initialize(first=batches)
    def create(self, first: dict[str, str]) -> None:
        self.documents = dict(first)
        toy_system(first, fingerprint=None).save(self.path)
        self.writer, self.reader = opened(self.path, write=True), opened(self.path)

    @rule(batch=batches)
    def add(self, batch: dict[str, str]) -> None:
        assert self.writer is not None
        if batch.keys() & self.documents.keys():
            with pytest.raises(UsageError, match="is there already"):
                self.writer.add(batch.items())
            return
        self.writer.add(batch.items())
        self.documents |= batch

    @rule(names=st.sets(names, min_size=1, max_size=3))
    def remove(self, names: set[str]) -> None:
        assert self.writer is not None
        if names - self.documents.keys():
            with pytest.raises(UnknownDocumentError):
                self.writer.remove(sorted(names))
            return
        self.writer.remove(sorted(names))
        for name in names:
            del self.documents[name]

    @rule()
    def save_over_its_own_folder(self) -> None:
        assert self.writer is not None
        if not self.documents:
            with pytest.raises(UsageError, match="no documents"):
                self.writer.save(self.path, overwrite=True)
            return
        self.writer.save(self.path, overwrite=True)
        assert not list((self.path / "docids").glob("*.journal"))

    @rule()
    def save_elsewhere_and_go_on(self) -> None:
        assert self.writer is not None
        if self.documents:
            self.writer.save(self.path.with_name("copy"), overwrite=True)
            check(opened(self.path.with_name("copy")), self.documents, ["beam"])

    @rule()
    def restart(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = opened(self.path, write=True)

    @rule()
    def refresh(self) -> None:
        self.reader.refresh()
        check(self.reader, self.documents, ["lookahead"])
        assert not self.reader.refresh()

    @invariant()
    def finds_what_there_is(self) -> None:
        if self.writer is not None:
            check(self.writer, self.documents)

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.home.cleanup()


LivingMachine.TestCase.settings = settings(max_examples=3, stateful_step_count=10, deadline=None)
TestLivingMachine = LivingMachine.TestCase


@pytest.mark.slow
def test_killed_at_any_moment_no_document_is_lost_or_half_added(path: Path) -> None:
    chance = random.Random(0)
    done = 0
    for _ in range(2):
        command = [sys.executable, "-m", "tests.generative.unigen_writer", str(path), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            for _ in range(chance.randrange(1, 8)):
                done = int(writer.stdout.readline())
            time.sleep(chance.random() * 0.05)
            writer.kill()
            done = max([done, *map(int, writer.stdout.read().split())])
        with opened(path, write=True) as system:
            found = set(system.table.doc_ids(system.table.present)) - set(DOCID_TEXTS)
            # The change after the last acknowledged one adds a document, then may remove one.
            begun = after(done).keys() | after(done + 1).keys()
            assert found in (set(after(done)), set(begun), set(after(done + 1)))
            known = after(done) | after(done + 1)
            check(system, {**DOCID_TEXTS, **{name: known[name] for name in found}}, ["lookahead"])


def test_in_memory_documents_come_and_go_and_saving_keeps_them(tmp_path: Path) -> None:
    system = toy_system()
    system.add([("moon", "Mars | moon")], corpus_fingerprint="toy2")
    system.remove(["iron", "gold"], corpus_fingerprint="toy2")
    documents = {**DOCID_TEXTS, "moon": "Mars / moon"}  # the mark of a context is no part of a docid
    del documents["iron"], documents["gold"]
    check(system, documents)
    assert searching(system, "beam", 8).fingerprint == "toy2"
    system.save(tmp_path / "model")
    check(opened(tmp_path / "model"), documents)
    UniGen.open(tmp_path / "model", corpus_fingerprint="toy2")
    with pytest.raises(MismatchError, match="another corpus"):
        UniGen.open(tmp_path / "model", corpus_fingerprint="toy")
    assert not system.refresh()
    # A system of its table has the documents that it has now.
    check(UniGen(system.model, system.tokenizer, system.table, settings=system.settings, device="cpu"), documents)


def test_a_search_that_goes_on_sees_what_there_was(path: Path) -> None:
    with opened(path, write=True) as system:
        removed: list[str] = []

        def meanwhile(done: int, total: int) -> None:
            if not removed:
                removed.append("iron")
                system.remove(removed)

        system.settings = replace(system.settings, token_budget=60, num_beams=10)  # several blocks
        run, _ = system.search_and_answer(contexts(), 10, progress=meanwhile)
        assert removed
        assert all("iron" in run.doc_ids(query_id) for query_id in run)
        assert all("iron" not in row for row in (system.search(contexts(), 10).doc_ids(q) for q in run))


def test_filters_and_candidates_know_who_is_there(path: Path) -> None:
    with opened(path, write=True) as system:
        system.add([("moon", "Mars moon")])
        system.remove(["iron"])
        run = system.search(ASKED, 5, allowed_documents=["moon", "gold"])
        assert all(sorted(run.doc_ids(query.id)) == ["gold", "moon"] for query in ASKED)
        with pytest.raises(UnknownDocumentError, match="iron"):
            system.search(ASKED, 5, allowed_documents=["iron"])
        with pytest.raises(UnknownDocumentError, match="iron"):
            system.rerank(ASKED[:1], Run([ASKED[0].id], [["iron"]], [[1.0]]), CORPUS)


def test_one_process_changes_a_model(path: Path) -> None:
    reader = opened(path)
    for change in (lambda: reader.add([("x", "Iron")]), lambda: reader.remove(["iron"])):
        with pytest.raises(UsageError, match=r"opened to be read.*write=True"):
            change()
    with opened(path, write=True) as system:
        with pytest.raises(LockedError, match="open for changes"):
            opened(path, write=True)
        with pytest.raises(LockedError, match="open for changes"):
            reader.save(path, overwrite=True)
        system.add([("x", "Iron")])
        with pytest.raises(UsageError, match="part of a larger folder"):
            system.docids.merge()
        with pytest.raises(UsageError, match="'y' has an empty docid"):
            system.add([("y", "")])
    with pytest.raises(UsageError, match="opened to be read"):
        system.remove(["x"])
    store.verify(path)
    opened(path, write=True).close()


def test_a_reader_is_not_fooled_by_a_folder_that_looks_the_same(path: Path) -> None:
    with opened(path, write=True) as writer:
        writer.add([("x", "Iron bell")])
        reader = opened(path)
        writer.remove(["x"])
        writer.save(path, overwrite=True)  # the same documents as in the beginning
        writer.add([("y", "Gold")])
        assert reader.refresh()
        check(reader, {**DOCID_TEXTS, "y": "Gold"}, ["beam"])


def test_a_model_of_an_early_retgen_can_be_read_and_saved_anew(tmp_path: Path) -> None:
    system = toy_system()
    with store.create(tmp_path / "model", kind="unigen") as staging:
        system.model.save_pretrained(staging / "model")
        system.tokenizer.save_pretrained(staging / "model")
        system.table.save(staging / "docids")
        (staging / "settings.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"early retgen.*overwrite=True"):
        opened(tmp_path / "model", write=True)
    opened(tmp_path / "model").save(tmp_path / "model", overwrite=True)
    with opened(tmp_path / "model", write=True) as system:
        system.remove(["iron"])
    assert "iron" not in opened(tmp_path / "model").docids


@pytest.mark.parametrize("damage", ["short", "flipped"])
def test_a_damaged_journal_is_refused_and_a_torn_end_passed_over(path: Path, damage: str) -> None:
    with opened(path, write=True) as system:
        system.add([("x", "Iron bell")])
        system.remove(["gold"])
    journal = path / "docids" / "changes.journal"
    whole = journal.read_bytes()
    if damage == "short":
        journal.write_bytes(whole[:-7])
        check(opened(path), {**DOCID_TEXTS, "x": "Iron bell"}, ["beam"])
    else:
        journal.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        with pytest.raises(ArtefactError, match="damaged"):
            opened(path)


def test_a_model_follows_its_index_to_a_larger_corpus(tmp_path: Path) -> None:
    """Documents are added to the index and to the model, which was not trained on them, and found in both."""
    first = Index.build(DOCUMENTS, tmp_path / "index")
    system = toy_system(fingerprint=first.fingerprint)
    system.settings = replace(system.settings, context="offline:bm25-context", num_beams=10)
    system.save(tmp_path / "model")
    new = Document("moon", "The Moon goes round the Earth in 27 days.", "Moon")
    larger = Index.build([*DOCUMENTS[1:], new], tmp_path / "index", overwrite=True)
    with pytest.raises(MismatchError, match="another corpus"):
        open_unigen(tmp_path / "model", larger, device="cpu")
    with opened(tmp_path / "model", write=True) as writer:
        writer.add([(new.id, new.title)])
        writer.remove([DOCUMENTS[0].id], corpus_fingerprint=larger.fingerprint)
    over = open_unigen(tmp_path / "model", larger, device="cpu")
    assert isinstance(over.writer, OfflineWriter)
    run = over.search(ASKED, 10)
    assert all(sorted(run.doc_ids(q.id)) == sorted([*(d.id for d in DOCUMENTS[1:]), "moon"]) for q in ASKED)
