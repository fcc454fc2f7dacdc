"""Collections of labelled passages: labels are kept, equal passages are one, splits are apart, limits nest."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retgen.corpus import Corpus
from retgen.errors import RecordError, RetgenError, UsageError
from retgen.formats.dpr import Example, write_examples
from retgen.formats.msmarco_qna import passage_id
from retgen.recipes import StageContext
from retgen.recipes.collections import SPLITS, read_questions
from retgen.recipes.labelled_collections import dpr_labelled_collection, msmarco_qna_collection
from retgen.types import Document, Query, Triplet
from tests.recipes import published

MSMARCO = ("train_v2.1.json.gz", "dev_v2.1.json.gz")
NQ = ("biencoder-nq-train.json", "biencoder-nq-dev.json")


class Made:
    """What a stage made of a folder of data."""

    def __init__(self, data: Path, files: Sequence[str], stage: Callable[..., None], params: dict[str, Any]) -> None:
        folder = data.parent / f"made-{len(list(data.parent.iterdir()))}"
        folder.mkdir()
        self.said: list[str] = []
        listen = lambda event: self.said.append(event.text)  # noqa: E731
        context = StageContext("collection", folder, folder, folder, {}, data, tuple(files), listen, None)
        stage(context, **params)
        self.values = context.reported.values
        self.corpus = Corpus.open(folder / "corpus")
        self.questions: dict[str, list[Triplet]] = {split: read_questions(folder, split) for split in SPLITS}

    def check(self) -> None:
        """What holds of every collection."""
        ids = [triplet.query.id for triplets in self.questions.values() for triplet in triplets]
        assert len(set(ids)) == len(ids)
        labels = {doc_id for own in self.questions.values() for triplet in own for doc_id in triplet.doc_ids}
        # Exactly the labelled passages, each text once.
        assert labels == {document.id for document in self.corpus}
        assert len({document.contents for document in self.corpus}) == len(self.corpus)
        for split, triplets in self.questions.items():
            assert triplets
            assert all(triplet.doc_ids and triplet.answers for triplet in triplets)
            assert self.values[f"{split}_questions"] == len(triplets)

    def ids(self, split: str) -> list[str]:
        return [triplet.query.id for triplet in self.questions[split]]


def msmarco(data: Path, **params: Any) -> Made:
    return Made(data, MSMARCO, msmarco_qna_collection, params)


def nq(data: Path, *more: str, **params: Any) -> Made:
    return Made(data, [*NQ, *more], dpr_labelled_collection, params)


@pytest.fixture
def qna(tmp_path: Path) -> Path:
    published.write_msmarco_qna(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def biencoder(tmp_path: Path) -> Path:
    """Three positives a question, the last of them another's first under another id."""
    documents, asked = published.small_almanac(20)
    data = tmp_path / "biencoder"
    data.mkdir()
    for name, split in zip(NQ, ("train", "dev"), strict=True):
        examples = []
        for number, question in enumerate(asked[split][:30]):
            place = next(n for n, document in enumerate(documents) if document.id == question.doc_id)
            near, last = documents[(place + 1) % 20], documents[(place + 2) % 20]
            copy = Document(f"copy of {last.id}", last.text, last.title)
            hard = Document("hard", "Never a label.", "Hard")
            examples.append(
                Example(
                    Query(str(number), question.text),
                    question.answers,
                    (documents[place], near, copy) if number % 5 else (),
                    (hard,),
                )
            )
        write_examples(data / name, examples)
    return data


def test_msmarco_keeps_what_is_selected_and_answered(qna: Path) -> None:
    made = msmarco(qna)
    made.check()
    rows = json.loads(gzip.decompress((qna / MSMARCO[0]).read_bytes()))
    expected = {
        str(rows["query_id"][key]): {passage_id(p["passage_text"]) for p in passages if p["is_selected"]}
        for key, passages in rows["passages"].items()
        if rows["answers"][key] != ["No Answer Present."]
    }
    assert {triplet.query.id: set(triplet.doc_ids) for triplet in made.questions["train"]} == expected
    assert max(map(len, expected.values())) == 2
    assert len(expected) == 30 - 30 // published.UNANSWERED
    assert all("No Answer Present." not in triplet.answers for triplet in made.questions["dev"])
    assert "8 without an answer, 0 without a passage" in made.said[-1]
    # One passage stands under many questions, and the dev file gives both other splits.
    assert made.values["passages"] < sum(len(triplet.doc_ids) for own in made.questions.values() for triplet in own)
    held_out = {*made.ids("dev"), *made.ids("test")}
    assert len(held_out) == 30 - 30 // published.UNANSWERED
    assert all(int(question_id) >= 9000 for question_id in held_out)


@pytest.mark.parametrize("make", [msmarco, nq])
def test_limits_nest_and_keep_what_is_asked_in_the_end(make: Callable[..., Made], qna: Path, biencoder: Path) -> None:
    data = qna if make is msmarco else biencoder
    whole = make(data)
    small = make(data, test_questions=3, limit_passages=14)
    small.check()
    assert len(small.corpus) <= 14
    assert [len(small.questions[split]) for split in ("dev", "test")] == [3, 3]
    larger = make(data, test_questions=4, limit_passages=18)
    larger.check()
    for split in SPLITS:
        assert set(small.ids(split)) <= set(larger.ids(split)) <= set(whole.ids(split))
    assert len(make(data, train_questions=5).questions["train"]) == 5
    # Larger, the share of test questions keeps those it had.
    assert set(whole.ids("test")) < set(make(data, test_share=0.9).ids("test"))
    with pytest.raises(UsageError, match=r"alone have \d+ passages, more than 4"):
        make(data, limit_passages=4)
    with pytest.raises(UsageError, match="between 0 and 1"):
        make(data, test_share=1.0)


def test_nq_merges_copies_and_leaves_out_questions_without_passages(biencoder: Path) -> None:
    made = nq(biencoder)
    made.check()
    first = nq(biencoder, positives=1)
    first.check()
    assert "0 without an answer, 12 without a passage" in made.said[-1]
    assert all(len(triplet.doc_ids) == 3 for triplet in made.questions["train"])
    assert {t.query.id: t.doc_ids[:1] for t in made.questions["train"]} == {
        t.query.id: t.doc_ids for t in first.questions["train"]
    }
    assert "hard" not in {document.id for document in made.corpus}
    assert {question_id.partition(":")[0] for question_id in made.ids("test")} == {"dev"}


def test_nq_takes_a_test_file_with_passages_and_no_other(biencoder: Path) -> None:
    (biencoder / "test.json").write_bytes((biencoder / NQ[1]).read_bytes())
    made = nq(biencoder, "test.json", test="test.json")
    made.check()
    assert [name.replace("dev:", "test:") for name in sorted(made.ids("dev"))] == sorted(made.ids("test"))
    (biencoder / "nq-test.csv").write_text("who?\t['me']\n")
    with pytest.raises(UsageError, match="no passages to find"):
        nq(biencoder, "nq-test.csv", test="nq-test.csv")


def test_a_passage_whose_id_is_taken_keeps_its_first_text(tmp_path: Path) -> None:
    for name, text in zip(NQ, ("first", "second"), strict=True):
        examples = [Example(Query(str(n), f"q{n}"), ("a",), (Document("7", text, "T"),)) for n in range(8)]
        (tmp_path / "data").mkdir(exist_ok=True)
        write_examples(tmp_path / "data" / name, examples)
    made = nq(tmp_path / "data")
    assert [document.text for document in made.corpus] == ["second"]  # dev and test come first
    assert "8 passages had another text under an id that was taken" in made.said[-1]


def test_broken_files_are_named(qna: Path, biencoder: Path) -> None:
    for data, name, make in ((qna, MSMARCO[0], msmarco), (biencoder, NQ[0], nq)):
        content = (data / name).read_bytes()
        (data / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(RetgenError, match=name):
            make(data)
        text = gzip.decompress(content) if name.endswith("gz") else content
        (data / name).write_bytes(text[: len(text) // 2])
        with pytest.raises(RecordError, match=name) as caught:
            make(data)
        assert caught.value.line
    rows = [{"query": "q", "query_id": 1, "answers": ["a"], "passages": [{"is_selected": 3, "passage_text": "x"}]}]
    published.write_columns(qna / MSMARCO[0], rows)
    with pytest.raises(RecordError, match=r"train_v2\.1\.json\.gz:1 \[passages\[0\]\.is_selected\]: expected 0 or 1"):
        msmarco(qna)


def test_a_split_without_questions_and_a_question_of_two_splits_are_refused(qna: Path) -> None:
    dev = qna / MSMARCO[1]
    content = dev.read_bytes()
    rows = [{"query": "q", "query_id": 1, "answers": ["No Answer Present."], "passages": []}]
    published.write_columns(dev, rows)
    with pytest.raises(UsageError, match="no question with an answer and a passage is left for dev"):
        msmarco(qna)
    dev.write_bytes(content)
    (qna / MSMARCO[0]).write_bytes(content)
    with pytest.raises(UsageError, match="stands in two splits"):
        msmarco(qna)
