"""The almanac: true to its own rules about passages, answers, splits and descriptions."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections import Counter, defaultdict

import pytest

from retgen import almanac
from retgen.almanac.entities import KINDS, entities, possessive, slug
from retgen.almanac.interrogation import MAX_ANSWERS, SPLITS, described_columns, relations
from retgen.errors import UsageError

PASSAGES = {document.id: document for document in almanac.documents()}
QUESTIONS = almanac.questions()
ENTITIES = {entity.doc_id: entity for entity in entities()}


def template_of(question: almanac.AlmanacQuestion) -> str:
    """The phrasing that a question was made from."""
    kind = question.doc_id.split("/")[0]
    relation = next(r for r in relations(kind) if r.name == question.relation)
    return relation.phrasings[question.split][int(question.family.split("-")[1]) - 1]


def test_there_are_enough_passages_and_every_kind_is_present():
    assert len(PASSAGES) >= 300
    assert {document.metadata["kind"] for document in PASSAGES.values()} == set(KINDS)


def test_document_ids_titles_and_texts_are_unique():
    documents = almanac.documents()
    assert len({d.id for d in documents}) == len(documents)
    assert len({d.title.lower() for d in documents}) == len(documents)
    assert len({d.text for d in documents}) == len(documents)
    assert all(re.fullmatch(r"[a-z]+/[a-z0-9]+(-[a-z0-9]+)*", d.id) for d in documents)


def test_every_passage_has_between_40_and_100_words():
    lengths = {d.id: len(d.text.split()) for d in PASSAGES.values()}
    assert {i: n for i, n in lengths.items() if not 40 <= n <= 100} == {}


def test_every_passage_names_its_entity():
    for entity in entities():
        assert entity.name.lower() in PASSAGES[entity.doc_id].text.lower()


def test_question_ids_are_unique_and_say_what_they_are():
    assert len({q.id for q in QUESTIONS}) == len(QUESTIONS)
    assert all(q.id == f"{q.doc_id}-{q.relation}-{q.family}" for q in QUESTIONS)


def test_every_passage_has_eight_questions_and_one_in_the_test_split():
    asked, tested = Counter(q.doc_id for q in QUESTIONS), {q.doc_id for q in almanac.questions("test")}
    assert asked.keys() == PASSAGES.keys() == tested
    assert min(asked.values()) >= 8


def test_splits_hold_about_70_10_and_20_per_cent():
    share = {split: len(almanac.questions(split)) / len(QUESTIONS) for split in SPLITS}
    assert share == pytest.approx({"train": 0.7, "dev": 0.1, "test": 0.2}, abs=0.02)


def test_an_answer_occurs_in_the_passage():
    unanswerable = {
        (q.doc_id, q.relation)
        for q in QUESTIONS
        if not any(answer.lower() in PASSAGES[q.doc_id].text.lower() for answer in q.answers)
    }
    assert unanswerable == set()
    assert all(1 <= len(q.answers) <= MAX_ANSWERS and all(q.answers) for q in QUESTIONS)


def test_no_phrasing_serves_two_splits():
    splits_of = defaultdict(set)
    for kind in KINDS:
        for relation in relations(kind):
            assert set(relation.phrasings) == set(SPLITS), (kind, relation.name)
            assert sum(map(len, relation.phrasings.values())) >= 6, (kind, relation.name)
            for split, templates in relation.phrasings.items():
                for template in templates:
                    splits_of[template.lower()].add(split)
    assert {t: s for t, s in splits_of.items() if len(s) > 1} == {}


def test_no_question_text_occurs_twice():
    texts = Counter(q.text.lower() for q in QUESTIONS)
    assert [text for text, n in texts.items() if n > 1] == []


def test_every_tested_fact_is_asked_in_training_too():
    known = {(q.doc_id, q.relation) for q in almanac.questions("train")}
    named = {(q.doc_id, q.relation) for q in almanac.questions("test") if not q.entity_free}
    assert named <= known


def test_entity_free_questions_cover_every_passage_and_the_test_split():
    free = [q for q in QUESTIONS if q.entity_free]
    assert {q.doc_id for q in free} == PASSAGES.keys()
    assert sum(q.split == "test" for q in free) >= 100


def test_entity_free_questions_hide_the_name_and_ask_for_it():
    for question in QUESTIONS:
        name = ENTITIES[question.doc_id].name
        named = re.search(rf"\b{re.escape(name)}\b", question.text, flags=re.IGNORECASE)
        if question.entity_free:
            assert not named, question.text
            assert question.answers == (name,)
        else:
            assert named, question.text


def test_entity_free_questions_fit_one_entity_only():
    ambiguous = []
    checked = {(q.doc_id, q.relation, template_of(q)) for q in QUESTIONS if q.entity_free}
    columns_asked = {(doc_id, described_columns(template)) for doc_id, _, template in checked}
    for doc_id, columns in columns_asked:
        facts = ENTITIES[doc_id].facts
        assert columns <= facts.keys()
        for other in entities():
            if other.kind == ENTITIES[doc_id].kind and other.doc_id != doc_id:
                shared = (set(facts[c]) & set(other.facts.get(c, ())) for c in columns)
                if all(shared):
                    ambiguous.append((doc_id, other.doc_id, sorted(columns)))
    assert ambiguous == []


def test_descriptions_are_made_of_facts_that_the_passage_states():
    missing = set()
    for question in QUESTIONS:
        if question.entity_free:
            text = PASSAGES[question.doc_id].text.lower()
            facts = ENTITIES[question.doc_id].facts
            for column in described_columns(template_of(question)):
                if not all(value.lower() in text for value in facts[column]):
                    missing.add((question.doc_id, column))
    assert missing == set()


SLIPS = re.compile(r"[{}]|\s\s|\s[,.?;]|\.\.|,,|\bthe the\b|\b[Aa] [aeioAEIO]\w|\b[Aa]n [^aeiouAEIOU]|\|")
EXCEPTIONS = re.compile(r"\ba (one|eu)|\ban (hour|honest|heir)", flags=re.IGNORECASE)


@pytest.mark.parametrize("phrase", ["a Asia", "an Baroque", "{name}", "a  b", "the the Alps", "D.C.."])
def test_the_grammar_check_would_find(phrase: str):
    assert SLIPS.search(phrase)


def test_texts_are_free_of_slips():
    texts = [q.text for q in QUESTIONS] + [d.text for d in PASSAGES.values()]
    assert [t for t in texts if SLIPS.search(EXCEPTIONS.sub("so", t))] == []
    assert all(re.match(r"\w", t) and t[0] == t[0].upper() for t in texts)
    assert all(q.text[-1] in "?." for q in QUESTIONS)
    assert all(d.text[-1] == "." for d in PASSAGES.values())


def test_text_is_the_same_in_another_process():
    program = (
        "import zlib; from retgen import almanac;"
        "print(zlib.crc32(repr((almanac.documents(), almanac.questions())).encode()))"
    )
    here = zlib.crc32(repr((almanac.documents(), almanac.questions())).encode())
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(there.stdout) == here


def test_callers_get_lists_of_their_own():
    almanac.documents().clear()
    almanac.questions().clear()
    assert almanac.documents()
    assert almanac.questions()


def test_an_unknown_split_is_named_in_the_error():
    with pytest.raises(UsageError, match=r"'validation'.*train, dev, test"):
        almanac.questions("validation")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Laos", "Laos's"), ("the Philippines", "the Philippines'"), ("the hippopotamus", "the hippopotamus's")],
)
def test_possessive(name: str, expected: str):
    assert possessive(name) == expected


def test_slug():
    assert slug("Lake Vänern") == "lake-vanern"
    assert slug("Mount St Helens") == "mount-st-helens"
