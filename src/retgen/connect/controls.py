"""Controls for contexts: what a model loses when the passages come in another order, or belong to another question."""

from __future__ import annotations

import random
from collections.abc import Sequence

from retgen.connect.blocks import ContextBlock
from retgen.errors import UsageError


def shuffle_blocks(blocks: Sequence[ContextBlock], seed: int) -> list[ContextBlock]:
    """The same blocks with the passages in random order; answer blocks stay where they are.

    A model that reads loses little by it; one that copies the first docid loses much.

    Args:
        blocks: of one question.
        seed: the same seed gives the same permutation of as many passages: pass another for every question (e.g. a
            hash of its id), or all questions' passages move alike.

    Example:
        >>> blocks = [ContextBlock(name, name) for name in "abcd"]
        >>> sorted(block.doc_id for block in shuffle_blocks(blocks, seed=7))
        ['a', 'b', 'c', 'd']
    """
    passages = [block for block in blocks if not block.is_answer]
    random.Random(seed).shuffle(passages)
    order = iter(passages)
    return [block if block.is_answer else next(order) for block in blocks]


def foreign_context(all_blocks: Sequence[Sequence[ContextBlock]], seed: int) -> list[list[ContextBlock]]:
    """Every question gets the context of another question, none its own: a random cyclic derangement.

    Args:
        all_blocks: the contexts of at least two questions, in the questions' order.
        seed: of the derangement.

    Returns:
        The contexts, moved: each used exactly once. Two questions may share a context's content (the same passages
        answer both), which this does not look at.

    Raises:
        UsageError: there is one question only, which has no other's context to take.

    Example:
        >>> moved = foreign_context([[ContextBlock("a", "A")], [ContextBlock("b", "B")]], seed=0)
        >>> [blocks[0].doc_id for blocks in moved]
        ['b', 'a']
    """
    number = len(all_blocks)
    if number == 1:
        raise UsageError("a foreign context needs at least two questions; there is one", mend="Pass more questions")
    # Sattolo's algorithm: a uniformly random single cycle, hence no fixed point.
    order = list(range(number))
    generator = random.Random(seed)
    for last in range(number - 1, 0, -1):
        other = generator.randrange(last)
        order[last], order[other] = order[other], order[last]
    return [list(all_blocks[source]) for source in order]
