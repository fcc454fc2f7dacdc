"""The two marks of a written context, the one place that names them.

A model reads ``question | docid » sentences | docid » sentences |``: every block begins and ends at a boundary, and a
docid ends where the docid-end mark stands. Nothing here loads a heavy package, so any room above may import it.
"""

from __future__ import annotations

BOUNDARY = "|"
"""Stands between the question and the first block, between blocks, and behind the last one."""

DOCID_END = "»"
"""Ends a block's docid; copying it writes the end-of-sequence token."""

_REPLACEMENTS = str.maketrans({BOUNDARY: "/", DOCID_END: '"'})


def without_marks(text: str) -> str:
    """A text in which no mark occurs, as it must be before it goes into a block.

    Example:
        >>> without_marks("a | b «c»")
        'a / b «c"'
    """
    return text.translate(_REPLACEMENTS)
