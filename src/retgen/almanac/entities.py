"""Entities and their facts, read from ``facts/*.tsv``, and the word forms templates may use.

A fact file has a header row. Every file has the columns ``name`` (as written inside a sentence)
and ``article`` (``the`` or empty); the other columns are facts, and an empty cell means that
the almanac does not state the fact. Several values in one cell are separated by ``"; "``,
except in ``note``, which holds a whole sentence.
"""

from __future__ import annotations

import csv
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from zlib import crc32

KINDS = (
    "country",
    "element",
    "world",
    "river",
    "mountain",
    "lake",
    "language",
    "invention",
    "animal",
    "composer",
    "scientist",
)
"""Every kind of entity, each with one file of facts, one of passages and one of phrasings."""

PRONOUNS = {"he": "his", "she": "her"}


@dataclass(frozen=True, slots=True)
class Entity:
    """One entry of the almanac.

    Attributes:
        doc_id: the id of the entity's passage, such as ``country/laos``.
        kind: one of `KINDS`.
        name: the name without its article, as written inside a sentence.
        title: the name as a heading; names that two kinds share carry the kind in brackets.
        facts: column to values, without the empty ones.
        forms: placeholder to text, what a template may use (see `word_forms`).
    """

    doc_id: str
    kind: str
    name: str
    title: str
    facts: dict[str, tuple[str, ...]]
    forms: dict[str, str]


def read_lines(folder: str, filename: str) -> list[str]:
    """The lines of a data file that ships inside this package."""
    text = files(__package__).joinpath(folder, filename).read_text(encoding="utf-8")
    return text.splitlines()


def read_table(folder: str, filename: str) -> list[dict[str, str]]:
    """The rows of a tab-separated data file with a header row."""
    rows = csv.DictReader(read_lines(folder, filename), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    return [{key: value or "" for key, value in row.items()} for row in rows]


@cache
def entities() -> tuple[Entity, ...]:
    """Every entity of the almanac, kind by kind in the order of `KINDS`."""
    rows = [(kind, row) for kind in KINDS for row in read_table("facts", f"{kind}.tsv")]
    seen = Counter(row["name"].lower() for _, row in rows)
    return tuple(_entity(kind, row, shared=seen[row["name"].lower()] > 1) for kind, row in rows)


def _entity(kind: str, row: dict[str, str], shared: bool) -> Entity:
    name = row["name"]
    heading = capitalised(name)
    facts = {
        column: (cell,) if column == "note" else tuple(cell.split("; "))
        for column, cell in row.items()
        if cell and column not in ("name", "article")
    }
    return Entity(
        doc_id=f"{kind}/{slug(name)}",
        kind=kind,
        name=name,
        title=f"{heading} ({row.get('type', kind)})" if shared else heading,
        facts=facts,
        forms=word_forms(name, row["article"], facts),
    )


def word_forms(name: str, article: str, facts: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The texts that a template can ask for by placeholder.

    Args:
        name: name without article.
        article: ``"the"`` or ``""``.
        facts: column to values.

    Returns:
        For the name: ``name`` (with article), ``bare``, ``name_poss``. For a column ``c``: ``c``
        (its values joined), ``a_c`` (with "a" or "an"), ``c_s`` ("s" if there are several
        values, or one number other than 1) and ``c_is`` ("is" or "are"). All of these also with a capital first letter,
        under the capitalised placeholder: ``Name``, ``A_kind``.
    """
    full = f"{article} {name}".strip()
    forms = {"name": full, "bare": name, "name_poss": possessive(full)}
    for column, values in facts.items():
        joined = enumeration(values)
        forms[column] = joined
        forms[f"a_{column}"] = f"{indefinite_article(joined)} {joined}"
        forms[f"{column}_s"] = "s" if len(values) > 1 or (joined.isdigit() and joined != "1") else ""
        forms[f"{column}_is"] = "are" if len(values) > 1 else "is"
    if "pronoun" in forms:
        forms["he"] = forms["pronoun"]
        forms["his"] = PRONOUNS[forms["pronoun"]]
    capitals = {capitalised(form): capitalised(text) for form, text in forms.items()}
    return forms | capitals


def enumeration(values: Iterable[str]) -> str:
    """``["a", "b", "c"]`` as ``"a, b and c"``."""
    *head, last = values
    return f"{', '.join(head)} and {last}" if head else last


def possessive(name: str) -> str:
    """The possessive: ``Laos's``, but ``the Philippines'`` for a plural name."""
    plural = name.startswith("the ") and name.endswith("s") and not name.endswith(("us", "os"))
    return f"{name}'" if plural else f"{name}'s"


def indefinite_article(phrase: str) -> str:
    """``"an"`` before a vowel sound, else ``"a"``."""
    if re.match(r"(uni|eu|one\b|use)", phrase, flags=re.IGNORECASE):
        return "a"
    return "an" if phrase[0].lower() in "aeiou" else "a"


def capitalised(phrase: str) -> str:
    """The phrase with its first letter in upper case and the rest untouched."""
    return phrase[:1].upper() + phrase[1:]


def slug(name: str) -> str:
    """The name in lower-case ASCII with hyphens, for ids."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name.lower()).strip("-")


@cache
def placeholders(template: str) -> frozenset[str]:
    """The names in braces that a template fills in."""
    return frozenset(field for _, field, _, _ in string.Formatter().parse(template) if field)


def can_fill(entity: Entity, template: str) -> bool:
    """Whether the entity's facts suffice for the template."""
    return placeholders(template) <= entity.forms.keys()


def fixed_choice(key: str, n: int) -> int:
    """A number in ``[0, n)`` that depends on the key alone, evenly spread over keys."""
    return crc32(key.encode()) % n
