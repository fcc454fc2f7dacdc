"""Passages: the paragraph templates of ``passages/*.txt`` filled with an entity's facts.

A template file holds several paragraphs, separated by empty lines. Each line of a paragraph is
one place for a sentence, with alternatives separated by ``||``. What follows ``//`` on the line is
used only for entities that lack the facts for everything before it.
"""

from __future__ import annotations

from functools import cache

from retgen.almanac.entities import Entity, can_fill, fixed_choice, read_lines

Place = tuple[tuple[str, ...], ...]
"""Alternative sentences, then the alternatives to fall back on."""


@cache
def paragraphs(kind: str) -> tuple[tuple[Place, ...], ...]:
    """The paragraph templates of a kind of entity."""
    blocks = "\n".join(read_lines("passages", f"{kind}.txt")).strip().split("\n\n")
    return tuple(
        tuple(
            tuple(tuple(sentence.strip() for sentence in alternatives.split("||")) for alternatives in line.split("//"))
            for line in block.splitlines()
        )
        for block in blocks
    )


def passage(entity: Entity) -> str:
    """The encyclopedia entry of an entity, in 40 to 100 words.

    The paragraph and its sentences are chosen by a checksum of the document id, so that
    entities of a kind read differently from one another but the same every time. A sentence
    about a fact that the almanac does not state is left out.
    """
    templates = paragraphs(entity.kind)
    chosen = templates[fixed_choice(f"paragraph {entity.doc_id}", len(templates))]
    sentences = []
    for rank, place in enumerate(chosen):
        for alternatives in place:
            possible = [sentence for sentence in alternatives if can_fill(entity, sentence)]
            if possible:
                choice = fixed_choice(f"sentence {rank} {entity.doc_id}", len(possible))
                sentences.append(possible[choice].format_map(entity.forms))
                break
    return " ".join(sentences)
