"""Questions: the templates of ``phrasings/*.tsv`` filled with an entity's facts.

Each row gives a relation, a split and a template, and is one *family*, named by its split and
its rank there (``train-1``, ``test-2``). A row whose split is ``answer`` lists the acceptable
answers instead, separated by ``" / "``; without it, they are the values of the column that the
relation is named after. Relations named ``by-...`` describe an entity without naming it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from retgen.almanac.entities import (
    Entity,
    can_fill,
    entities,
    fixed_choice,
    placeholders,
    read_table,
)

SPLITS = ("train", "dev", "test")
MAX_ANSWERS = 3

TRAIN_FAMILIES = 3
"""How many training families ask about one relation of one entity."""
TEST_SEVENTHS = frozenset({0, 1, 2, 3, 4, 5})
DEV_SEVENTHS = frozenset({1, 4, 6})
"""Sevenths of all relations with a test (6/7) and a dev question (3/7): 70/10/20 in all."""


@dataclass(frozen=True, slots=True)
class AlmanacQuestion:
    """A question about one passage.

    Attributes:
        id: ``<doc id>-<relation>-<family>``, stable between releases.
        text: the question.
        answers: one to three acceptable short answers, at least one of them in the passage.
        doc_id: the passage that holds the answer.
        split: ``"train"``, ``"dev"`` or ``"test"``.
        family: the phrasing within relation and split, such as ``"test-1"``; relation, kind and
            family together name one template.
        relation: the fact that is asked for, or ``by-...`` for an entity-free question.
        entity_free: whether the question describes the entity instead of naming it.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    doc_id: str
    split: str
    family: str
    relation: str
    entity_free: bool


@dataclass(slots=True)
class Relation:
    """A fact that can be asked for, with its phrasings per split."""

    name: str
    answer: str = ""
    phrasings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def entity_free(self) -> bool:
        """Whether the relation's questions describe the entity instead of naming it."""
        return self.name.startswith("by-")


@cache
def relations(kind: str) -> tuple[Relation, ...]:
    """The relations of a kind of entity, in the order of its phrasing file."""
    found: dict[str, Relation] = {}
    for row in read_table("phrasings", f"{kind}.tsv"):
        relation = found.setdefault(row["relation"], Relation(row["relation"]))
        if row["split"] == "answer":
            relation.answer = row["template"]
        else:
            relation.phrasings[row["split"]].append(row["template"])
    return tuple(found.values())


def questions_about(entity: Entity) -> Iterator[AlmanacQuestion]:
    """All questions about one entity, for every split.

    Each relation gives up to `TRAIN_FAMILIES` training questions and at most one each for dev
    and test. Entity-free questions that fit a second entity, or whose facts contain the
    entity's own name ("Mexico City"), are left out.
    """
    for relation in relations(entity.kind):
        answers = acceptable_answers(entity, relation)
        if not answers:
            continue
        key = f"{entity.doc_id}-{relation.name}"
        for split in SPLITS:
            for family, template in _selected(relation, split, key):
                if not can_fill(entity, template):
                    continue
                text = template.format_map(entity.forms)
                if relation.entity_free and not describes_only(entity, template, text):
                    continue
                yield AlmanacQuestion(
                    id=f"{key}-{family}",
                    text=text,
                    answers=answers,
                    doc_id=entity.doc_id,
                    split=split,
                    family=family,
                    relation=relation.name,
                    entity_free=relation.entity_free,
                )


def _selected(relation: Relation, split: str, key: str) -> list[tuple[str, str]]:
    """The (family, template) pairs of a split that ask about one relation of one entity."""
    templates = relation.phrasings[split]
    families = [(f"{split}-{rank}", text) for rank, text in enumerate(templates, start=1)]
    if not families:
        return []
    start = fixed_choice(f"{split} {key}", len(families))
    rotated = families[start:] + families[:start]
    if split == "train":
        return sorted(rotated[:TRAIN_FAMILIES])
    seventh = fixed_choice(f"split {key}", 7)
    return rotated[:1] if seventh in (TEST_SEVENTHS if split == "test" else DEV_SEVENTHS) else []


def acceptable_answers(entity: Entity, relation: Relation) -> tuple[str, ...]:
    """The answers to a relation's questions about an entity; empty if the fact is not stated."""
    if relation.entity_free:
        return (entity.name,)
    if relation.answer:
        options = relation.answer.split(" / ")
        return tuple(text.format_map(entity.forms) for text in options if can_fill(entity, text))
    return entity.facts.get(relation.name, ())[:MAX_ANSWERS]


def describes_only(entity: Entity, template: str, text: str) -> bool:
    """Whether a description fits no other entity of its kind and does not give the name away.

    Two entities share a description if, for every column that the template uses, they have a
    value in common: "where French is spoken" fits each country with French among its languages.
    """
    name = entity.name.lower()
    if name in text.lower() and re.search(rf"\b{re.escape(name)}\b", text.lower()):
        return False
    alike = [
        set[str]().union(*(_with_value(entity.kind, column)[value] for value in values))
        for column in described_columns(template)
        if (values := entity.facts[column])
    ]
    return set.intersection(*alike) == {entity.doc_id}


@cache
def _with_value(kind: str, column: str) -> dict[str, set[str]]:
    """For each value of a column, the ids of the entities of that kind that have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for entity in entities():
        if entity.kind == kind:
            for value in entity.facts.get(column, ()):
                found[value].add(entity.doc_id)
    return found


@cache
def described_columns(template: str) -> frozenset[str]:
    """The columns of facts that a template uses, whatever the word form."""
    return frozenset(
        re.sub(r"^a_|_(s|is|poss)$", "", placeholder.lower())
        for placeholder in placeholders(template)
        if placeholder.lower() not in ("he", "his")
    )
