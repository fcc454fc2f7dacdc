"""The two pictures of UniGen's paper: learning curves over seeds (Figure 5) and measures against rounds (Figure 4).

And risk against coverage, of answers that are given only where they are likely enough to be right.

Figures are built with matplotlib's object interface, without pyplot: no window, no global state. The same numbers give
the same SVG, byte for byte.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retgen.errors import MissingExtraError, UsageError
from retgen.evaluate.selective import RiskCoverage
from retgen.store import atomic_file
from retgen.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RETRIEVAL_COLOUR = "tab:blue"
"""Of the left axis, MRR@10 in the paper."""
ANSWER_COLOUR = "tab:red"
"""Of the right axis, EM or BLEU-1 in the paper."""

_FORMATS = {".svg": "svg", ".png": "png", ".pdf": "pdf"}


@dataclass(frozen=True)
class Curve:
    """One measure against steps or rounds, over seeds.

    Args:
        name: what the axis says, e.g. ``"MRR@10"``.
        positions: the steps or rounds, rising, shape (points,).
        values: shape (seeds, points), or (points,) for one seed. NaN where a seed has no value.

    Raises:
        UsageError: shapes that do not fit, no points, positions that do not rise, or a point without any value.
    """

    name: str
    positions: npt.ArrayLike
    values: npt.ArrayLike

    def __post_init__(self) -> None:
        positions = np.asarray(self.positions, dtype=np.float64)
        values = np.atleast_2d(np.asarray(self.values, dtype=np.float64))
        if positions.ndim != 1 or not positions.size or values.ndim != 2 or values.shape[1] != positions.size:
            raise UsageError(
                f"the curve {self.name!r} needs as many values per seed as positions; "
                f"got positions of shape {positions.shape} and values of shape {values.shape}"
            )
        if (np.diff(positions) <= 0).any():
            raise UsageError(f"the positions of the curve {self.name!r} must rise")
        if np.isnan(values).all(axis=0).any():
            raise UsageError(f"the curve {self.name!r} has a position where no seed has a value")
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "values", values)

    @classmethod
    def from_seeds(cls, name: str, seeds: Sequence[Mapping[int, float]]) -> Curve:
        """A curve from one mapping of step → value per seed; steps that a seed lacks are left out of its mean."""
        steps = sorted({step for seed in seeds for step in seed})
        return cls(name, steps, [[seed.get(step, float("nan")) for step in steps] for seed in seeds])

    @property
    def mean(self) -> FloatArray:
        """Over seeds, shape (points,)."""
        return np.asarray(np.nanmean(np.asarray(self.values), axis=0), dtype=np.float64)

    @property
    def std(self) -> FloatArray:
        """Sample standard deviation (n − 1) over the seeds that have a value; 0 where only one has. Shape (points,)."""
        values = np.asarray(self.values)
        count = (~np.isnan(values)).sum(axis=0)
        squares = np.nansum((values - self.mean) ** 2, axis=0)
        return np.asarray(np.sqrt(squares / np.maximum(count - 1, 1)), dtype=np.float64)


def learning_curves(retrieval: Curve, answers: Curve, *, title: str = "", x_label: str = "Training steps") -> Figure:
    """Retrieval and answer quality against training steps: means with a band of one standard deviation.

    Args:
        retrieval: the left axis, blue.
        answers: the right axis, red.
        title: above the picture.
        x_label: below it.

    Returns:
        A figure for `save_figure`.

    Raises:
        MissingExtraError: matplotlib is not installed.

    Reference:
        UniGen, Figure 5.
    """
    return side_by_side([(title, retrieval, answers)], x_label=x_label, band=True)


def iteration_curves(
    retrieval: Curve, answers: Curve, *, title: str = "", x_label: str = "Number of iterations"
) -> Figure:
    """Retrieval and answer quality against rounds of iteration, with error bars where there are several seeds.

    Args:
        retrieval: the left axis, blue; round 0 is UniGen-Base.
        answers: the right axis, red.
        title: above the picture.
        x_label: below it.

    Returns:
        A figure for `save_figure`.

    Raises:
        MissingExtraError: matplotlib is not installed.

    Reference:
        UniGen, Figure 4.
    """
    return side_by_side([(title, retrieval, answers)], x_label=x_label)


def side_by_side(
    panels: Sequence[tuple[str, Curve, Curve]], *, x_label: str = "Number of iterations", band: bool = False
) -> Figure:
    """Several pictures of retrieval and answer quality in one row, e.g. one for each collection.

    Args:
        panels: title, retrieval and answers of each; all of the same two measures.
        x_label: below each.
        band: a band of one standard deviation, as over training steps, in place of error bars, as over rounds.

    Returns:
        A figure for `save_figure`.

    Raises:
        UsageError: no panel.
        MissingExtraError: matplotlib is not installed.

    Reference:
        UniGen, Figures 4 and 5, which have a panel for each data set.
    """
    if not panels:
        raise UsageError("there is nothing to draw", mend="Give at least one panel")
    figure: Figure = _matplotlib(".figure").Figure(figsize=(5.0 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for left, (title, retrieval, answers) in zip(axes, panels, strict=True):
        lines = _draw_pair(left, retrieval, answers, title, x_label, band=band)
        if not band:
            _mark_rounds(left, retrieval, answers)
    figure.legend(lines, [panels[0][1].name, panels[0][2].name], loc="outside lower center", ncols=2)
    return figure


def risk_coverage_curves(curves: Mapping[str, RiskCoverage], *, title: str = "") -> Figure:
    """What answering the surest questions costs: a line for each system, from the surest question to all of them.

    Args:
        curves: system → its curve; drawn in this order.
        title: above the picture.

    Returns:
        A figure for `save_figure`.

    Raises:
        UsageError: no curve.
        MissingExtraError: matplotlib is not installed.
    """
    if not curves:
        raise UsageError("there is nothing to draw", mend="Give at least one curve")
    figure: Figure = _matplotlib(".figure").Figure(figsize=(5.0, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.step(curve.coverage, curve.risk, where="post", label=f"{name} (area {curve.area:.3f})")
    axes.set_xlabel("Coverage: share of the questions answered")
    axes.set_ylabel("Risk: mean loss of those answered")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(bottom=0.0)
    axes.grid(alpha=0.3)
    axes.legend()
    if title:
        axes.set_title(title)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure in the format its suffix names: .svg, .png or .pdf.

    Raises:
        UsageError: another suffix.
    """
    target = Path(path)
    file_format = picture_format(target)
    # Without these, ids are random and the date is written, and no two files are alike.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with _matplotlib("").rc_context({"svg.hashsalt": "retgen"}), atomic_file(target) as draft:
        figure.savefig(draft, format=file_format, dpi=200, metadata=dates.get(file_format))
    return target


def picture_format(path: str | Path) -> str:
    """The format that a picture's suffix names. To be asked before long work whose end is a picture.

    Raises:
        UsageError: no format has this suffix.
        MissingExtraError: matplotlib is not installed.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in _FORMATS:
        raise UsageError(
            f"no picture format has the suffix {suffix!r}", where=path, mend=f"Use one of {list(_FORMATS)}"
        )
    _matplotlib("")
    return _FORMATS[suffix.lower()]


def _draw_pair(left: Axes, retrieval: Curve, answers: Curve, title: str, x_label: str, *, band: bool) -> list[Any]:
    lines = [
        _draw(left, retrieval, RETRIEVAL_COLOUR, "o", band=band),
        _draw(left.twinx(), answers, ANSWER_COLOUR, "s", band=band),
    ]
    left.set_xlabel(x_label)
    left.grid(axis="y", alpha=0.3)
    if title:
        left.set_title(title)
    return lines


def _mark_rounds(axes: Axes, retrieval: Curve, answers: Curve) -> None:
    rounds = sorted({*np.asarray(retrieval.positions).tolist(), *np.asarray(answers.positions).tolist()})
    axes.set_xticks(rounds, [f"{number:g}" for number in rounds])


def _draw(axes: Axes, curve: Curve, colour: str, marker: str, *, band: bool) -> Any:
    positions, mean, std = np.asarray(curve.positions), curve.mean, curve.std
    (line,) = axes.plot(positions, mean, color=colour, marker=marker, markersize=4)
    if std.any():
        if band:
            axes.fill_between(positions, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
        else:
            axes.errorbar(positions, mean, yerr=std, color=colour, fmt="none", capsize=3)
    axes.set_ylabel(curve.name, color=colour)
    axes.tick_params(axis="y", labelcolor=colour)
    return line


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(f"matplotlib{module}")
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
