"""What commands that train share before they begin: the extra they need, the usual source, the questions of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retgen.cli.running import skipping
from retgen.errors import MissingExtraError

if TYPE_CHECKING:
    from retgen.types import Triplet


def check_extra() -> None:
    """Refuse to begin without what trainings run on.

    Raises:
        MissingExtraError: accelerate is not installed.
    """
    from importlib.util import find_spec

    if find_spec("accelerate") is None:
        raise MissingExtraError("accelerate", "train")


def usual_source() -> str:
    """The source of weights where none is named: the packaged MiniLM where it is installed, else random weights."""
    from retgen.models.sources import PACKAGED, WARM, packaged_encoder

    try:
        packaged_encoder()
    except MissingExtraError:
        return "scratch:mini"
    return WARM + PACKAGED


def triplets_of(questions: str | None, *, skip_bad: bool) -> list[Triplet] | None:
    """The questions of a file with their answers and documents; None for no file."""
    if questions is None:
        return None
    from retgen.formats import read_triplets

    with skipping(skip_bad) as skipped:
        return list(read_triplets(questions, skipped=skipped))
