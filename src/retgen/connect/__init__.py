"""Connectors: the texts that bridge questions, documents and answers, and who writes them."""

from retgen.connect.blocks import ContextBlock, render
from retgen.connect.controls import foreign_context, shuffle_blocks
from retgen.connect.offline import OfflineWriter
from retgen.connect.pseudo import PseudoSplit, held_out, pseudo_questions
from retgen.connect.terms import TermWeights
from retgen.connect.writer import Writer

__all__ = [
    "ContextBlock",
    "OfflineWriter",
    "PseudoSplit",
    "TermWeights",
    "Writer",
    "foreign_context",
    "held_out",
    "pseudo_questions",
    "render",
    "shuffle_blocks",
]
