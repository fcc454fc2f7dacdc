"""SQuAD: paragraphs keep their numbers, questions their ids, and bad records their place."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from retgen.errors import RecordError
from retgen.formats import Skipped, read_corpus, read_triplets, squad
from tests.formats import samples


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_the_sample_is_read_exactly(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", samples.SQUAD)
    documents = list(squad.read_documents(path))
    assert [(item.id, item.title, item.text) for item in documents] == [
        ("Super_Bowl_50#0", "Super Bowl 50", "The Broncos won Super Bowl 50."),
        ("Super_Bowl_50#1", "Super Bowl 50", "It was played in 2016."),
        ("Beyonc%C3%A9#0", "Beyoncé", "Beyoncé sang."),
    ]
    questions = list(squad.read_questions(path))
    assert [(item.query.id, item.answers, item.doc_ids) for item in questions] == [
        ("q1", ("Broncos", "The Broncos"), ("Super_Bowl_50#0",)),
        ("q2", (), ("Super_Bowl_50#0",)),
        ("q3", (), ("Super_Bowl_50#1",)),
    ]


def test_two_articles_of_one_title_keep_distinct_ids(tmp_path: Path) -> None:
    article = {"title": "A B", "paragraphs": [{"context": "one", "qas": []}, {"context": "two", "qas": []}]}
    path = write(tmp_path / "a.json", {"data": [article, article]})
    assert [item.id for item in squad.read_documents(path)] == ["A_B#0", "A_B#1", "A_B#2", "A_B#3"]


@pytest.mark.parametrize(
    ("bend", "field", "line"),
    [
        (lambda data: data[0].pop("title"), "data[0].title", 1),
        (lambda data: data[1].update(title="a\nb"), "data[1].title", 2),
        (lambda data: data[1].update(paragraphs={}), "data[1].paragraphs", 2),
        (lambda data: data[0]["paragraphs"][1].update(context=" "), "data[0].paragraphs[1].context", 1),
        (lambda data: data[0]["paragraphs"].append("x"), "data[0].paragraphs[2]", 1),
        (lambda data: data[0]["paragraphs"][1].update(context="\ud800"), "data[0].paragraphs[1].context", 1),
        (lambda data: data[0]["paragraphs"][0]["qas"][0].update(question="a\0"), "qas[0].question", 1),
        (lambda data: data[0]["paragraphs"][0]["qas"][1].update(id="q1"), "qas[1].id", 1),
        (lambda data: data[0]["paragraphs"][0]["qas"][0]["answers"].append({"text": 5}), "qas[0].answers[2].text", 1),
        (lambda data: data[0]["paragraphs"][0].pop("qas"), "data[0].paragraphs[0].qas", 1),
    ],
)
def test_a_bad_record_is_named_and_can_be_left_out(tmp_path: Path, bend: object, field: str, line: int) -> None:
    value = copy.deepcopy(samples.SQUAD)
    bend(value["data"])  # type: ignore[operator]
    path = write(tmp_path / "a.json", value)
    with pytest.raises(RecordError) as caught:
        list(squad.read_questions(path))
    assert caught.value.field is not None
    assert caught.value.field.endswith(field)
    assert (caught.value.path, caught.value.line) == (str(path), line)
    skipped = Skipped()
    good = list(squad.read_questions(path, skipped=skipped))
    assert skipped.count == 1
    whole = {item.query.id: item for item in squad.read_questions(write(tmp_path / "b.json", samples.SQUAD))}
    # What is left out changes nothing in what stays, ids of paragraphs included.
    assert all(whole[item.query.id] == item for item in good)


def test_a_file_that_breaks_off_is_a_bad_record_at_its_line(tmp_path: Path) -> None:
    text = json.dumps(samples.SQUAD, indent=1)
    (tmp_path / "a.json").write_text(text[: len(text) // 2])
    with pytest.raises(RecordError, match="not JSON") as caught:
        list(squad.read_documents(tmp_path / "a.json"))
    assert caught.value.line is not None
    assert caught.value.line > 1


def test_the_real_file(shared_data: Path) -> None:
    documents = list(read_corpus(shared_data / "squad" / "dev-v1.1.json"))
    questions = list(read_triplets(shared_data / "squad" / "dev-v1.1.json"))
    assert (len(documents), len(questions)) == (2067, 10570)
    texts = {item.id: item.text for item in documents}
    assert len(texts) == 2067
    assert all(answer in texts[item.doc_ids[0]] for item in questions for answer in item.answers)
