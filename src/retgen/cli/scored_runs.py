"""Runs that carry scores to weigh, and the weights: as options name them, as ``retgen tune --out`` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from retgen.cli.running import counted, messages
from retgen.errors import FormatError, UsageError

if TYPE_CHECKING:
    from retgen.types import Run

_JPR = ("cross_encoder", "generator")
_NOT_PARTS = ("joint", "first_stage")
_TUNED = "Give a file that `retgen tune --out` wrote"


class Weights(NamedTuple):
    """Component → weight, and the scale of the scores they weigh; None where it is not said."""

    weights: Mapping[str, float]
    scale: str | None


def read_weights(given: str) -> Weights:
    """Weights from ``name=number,name=number`` or from a file of ``retgen tune --out``.

    Raises:
        UsageError: neither of both.
        FormatError: a file that ``retgen tune`` did not write.
    """
    if "=" in given and not Path(given).exists():
        weights: dict[str, float] = {}
        for part in given.split(","):
            name, _, number = part.partition("=")
            try:
                weights[name.strip()] = float(number)
            except ValueError:
                raise UsageError(
                    f"{part!r} is not name=number", where="--weights", mend="For example bm25=0.3,cross_encoder=0.7"
                ) from None
        return Weights(weights, None)
    try:
        content = json.loads(Path(given).read_text(encoding="utf-8"))
        return Weights({str(name): float(value) for name, value in content["weights"].items()}, str(content["scale"]))
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=given, mend=f"{_TUNED}, or name=number,name=number"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError("this file holds no weights", where=given, mend=_TUNED) from error


def generator_weight(given: str) -> float:
    """JPR's λ: a number, or a file of ``retgen tune --out`` over JPR's two components.

    Raises:
        UsageError: neither of both, or weights of other components or on another scale.
        FormatError: a file that ``retgen tune`` did not write.
    """
    try:
        return float(given)
    except ValueError:
        found = read_weights(given)
    if set(found.weights) != set(_JPR) or found.scale != "log_softmax":
        raise UsageError(
            f"these weights are of {', '.join(found.weights)} on the scale {found.scale}, not JPR's",
            where=given,
            mend="Tune the run of `retgen rerank --with jpr`, or weigh other components with `retgen fuse`",
        )
    return found.weights["generator"] / sum(found.weights.values())


def listed(names: str | None) -> list[str] | None:
    """Names that an option gives with commas between them."""
    return None if names is None else [name.strip() for name in names.split(",")]


def component_names(run: Run, path: Path) -> list[str]:
    """What to weigh of a run when nobody says: JPR's two, else the two that there are.

    Raises:
        UsageError: there are others than two.
    """
    if set(_JPR) <= set(run.component_names):
        return list(_JPR)
    found = [name for name in run.component_names if name not in _NOT_PARTS]
    if len(found) == 2:
        return found
    listed = f"it carries {', '.join(run.component_names)}" if run.component_names else "it carries none"
    raise UsageError(
        f"two components are to be weighed, and {listed}",
        where=path,
        mend="Name them with --components A,B"
        if len(found) > 2
        else "Give a run of `retgen rerank --with jpr` with its .parquet beside it, or two runs",
    )


def one_run(paths: Sequence[Path], runs: Sequence[Run], names: list[str] | None) -> tuple[Run, list[str]]:
    """A run that carries the components, and which they are.

    Args:
        paths: of the runs.
        runs: one whose components are wanted, or several, whose scores are.
        names: of the components; None takes JPR's two, or the files' names.

    Raises:
        UsageError: the names do not fit the runs.
    """
    from retgen.rerank.fusion import join_runs

    if len(runs) == 1:
        return runs[0], names if names is not None else component_names(runs[0], paths[0])
    if names is None:
        names = [path.stem for path in paths]
    if len(names) != len(runs) or len(set(names)) < len(names):
        raise UsageError(
            f"{len(runs)} runs need {len(runs)} different names; got {', '.join(names)}",
            where="--components",
            mend=f"For example --components {','.join(f'run{n}' for n in range(1, len(runs) + 1))}",
        )
    joined = join_runs(dict(zip(names, runs, strict=True)))
    lacking = {
        name: sum(len(joined.doc_ids(i)) - len(run.doc_ids(i)) for i in joined.query_ids)
        for name, run in zip(names, runs, strict=True)
    }
    for name, number in lacking.items():
        if number:
            messages().print(
                f"{name} lacks {counted(number, 'document', 'documents')} that another run found: they have its lowest "
                "score of the query",
                markup=False,
                highlight=False,
            )
    return joined, names
