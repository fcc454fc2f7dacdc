"""Blocks render to one flat text; controls permute passages and derange contexts, and leave their input alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.connect import ContextBlock, foreign_context, render, shuffle_blocks
from retgen.errors import UsageError

BLOCKS = st.lists(st.builds(ContextBlock, st.text(min_size=1), st.text(min_size=1), st.tuples(st.text())), max_size=8)


def test_render_separators() -> None:
    blocks = [ContextBlock.of_answer("1898"), ContextBlock("a", "Radium", ("One.", "Two.")), ContextBlock("b", "Rhine")]
    assert render(blocks, "When? ") == "When? answer: 1898 | Radium » One. Two. | Rhine |"
    assert render([], "When?") == "When?"
    assert render([]) == ""


def test_a_passage_named_answer_is_no_answer() -> None:
    assert ContextBlock.of_answer("x").is_answer
    assert not ContextBlock("a", "answer", ("x",)).is_answer


@given(BLOCKS, st.integers(), st.booleans())
def test_shuffle_is_a_permutation_with_the_answer_in_place(
    blocks: list[ContextBlock], seed: int, answered: bool
) -> None:
    given_blocks = [ContextBlock.of_answer("yes"), *blocks] if answered else blocks
    before = list(given_blocks)
    shuffled = shuffle_blocks(given_blocks, seed)
    assert given_blocks == before
    assert sorted(map(repr, shuffled)) == sorted(map(repr, before))
    assert shuffled == shuffle_blocks(given_blocks, seed)
    if answered:
        assert shuffled[0].is_answer


def test_shuffle_moves_something_for_some_seed() -> None:
    blocks = [ContextBlock(name, name) for name in "abc"]
    orders = {tuple(block.doc_id for block in shuffle_blocks(blocks, seed)) for seed in range(60)}
    assert len(orders) == 6


@given(st.integers(2, 30), st.integers())
def test_foreign_context_is_a_derangement(number: int, seed: int) -> None:
    contexts = [[ContextBlock(str(i), str(i))] for i in range(number)]
    moved = foreign_context(contexts, seed)
    origins = [blocks[0].doc_id for blocks in moved]
    assert sorted(origins) == sorted(str(i) for i in range(number))
    assert all(origin != str(i) for i, origin in enumerate(origins))
    assert moved == foreign_context(contexts, seed)


def test_foreign_context_of_none_and_of_one() -> None:
    assert foreign_context([], 0) == []
    with pytest.raises(UsageError, match="two questions"):
        foreign_context([[ContextBlock("a", "A")]], 0)
