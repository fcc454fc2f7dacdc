"""Two pictures of re-ranking: a measure against λ, and what moved for one query.

Built like those of `retgen.evaluate.plots`: matplotlib's object interface, no pyplot, no global state.
`retgen.evaluate.save_figure` writes them.
"""

from __future__ import annotations

import importlib
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from retgen.errors import MissingExtraError, UsageError
from retgen.rerank.moves import Move, Moves
from retgen.rerank.tuning import Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROSE, _FELL, _STAYED = "tab:green", "tab:red", "tab:gray"
_PARTS = ("tab:blue", "tab:orange", "tab:purple", "tab:brown")
_LABEL_CHARACTERS = 46
_MOST_TOKENS = 28
_MOST_WORDS = 3
_WORD_CHARACTERS = 22


def tuning_curve(tuning: Tuning, *, title: str = "") -> Figure:
    """The measure against λ, with the parts alone, the best point and its bootstrap interval.

    Args:
        tuning: of two components.
        title: above the picture.

    Raises:
        UsageError: more than two components have no curve.
        MissingExtraError: matplotlib is not installed.
    """
    if len(tuning.components) != 2:
        raise UsageError(
            f"a curve is drawn of two components, not of {len(tuning.components)}", mend="Name two of them to draw one"
        )
    figure = _figure(5.4, 3.6)
    axes: Axes = figure.add_subplot()
    weights, values = np.array(tuning.curve).T
    axes.plot(weights, values, color=_PARTS[0], marker="o", markersize=3.5, zorder=3)
    best = tuning.generator_weight
    below, above = tuning.value - tuning.interval.low, tuning.interval.high - tuning.value
    axes.errorbar(
        [best],
        [tuning.value],
        yerr=[[below], [above]],
        color=_FELL,
        marker="o",
        markersize=6,
        capsize=4,
        zorder=4,
        label=f"best: λ = {best:g}, {tuning.value:.4f} [{tuning.interval.low:.4f}, {tuning.interval.high:.4f}]",
    )
    for name, style in zip(tuning.components, ("--", ":"), strict=True):
        axes.axhline(
            tuning.alone[name], color="tab:gray", linestyle=style, label=f"{name} alone: {tuning.alone[name]:.4f}"
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel(f"λ, the weight of {tuning.components[1]}")
    axes.set_ylabel(f"{tuning.measure} ({len(tuning.question_ids)} questions)")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", fontsize="small")
    if title:
        axes.set_title(title)
    return figure


def moves_picture(moves: Moves, *, title: str = "") -> Figure:
    """What moved for one query: ranks before → after, what each part gave, and the query's tokens where there are any.

    Left, a line from each passage's rank before to its rank after (green rose, red fell). Middle, how far each part
    pulls a passage above or below the query's mean candidate, in nats. Right, the log-likelihood of each of the query's
    tokens under each passage, less the token's mean over the passages shown; or the passage's own words that matter
    most, whichever the re-ranker offers.

    Args:
        moves: from `explain_moves`.
        title: above the picture; the question by default.

    Raises:
        UsageError: the query has no candidates.
        MissingExtraError: matplotlib is not installed.
    """
    rows = moves.moves
    if not rows:
        raise UsageError(f"the query {moves.query.id!r} has no candidates to draw")
    tokens = max(len(move.tokens) for move in rows)
    height = 1.9 + 0.34 * len(rows)
    widths = [5.2, 2.8]
    if tokens:
        widths.append(min(8.0, 1.4 + 0.34 * min(tokens, _MOST_TOKENS)) if moves.tokens_are_the_query_s else 5.6)
    figure = _figure(sum(widths), height)
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _draw_slopes(panels[0], rows)
    _draw_pulls(panels[1], moves)
    if tokens and moves.tokens_are_the_query_s:
        _draw_tokens(figure, panels[2], rows)
    elif tokens:
        _write_words(panels[2], rows)
    fallen = next((place for place, move in enumerate(rows) if move.after > moves.k), None)
    for axes in panels:
        axes.set_ylim(len(rows) - 0.4, -0.6)
        if fallen is not None:  # those below were shown only because of where they stood before
            axes.axhline(fallen - 0.5, color="tab:gray", linestyle=":", linewidth=1)
    heading = title or f"“{moves.query.text}”"
    lines = textwrap.wrap(heading, max(40, int(sum(widths) * 9)), max_lines=3, placeholder=" …”")
    figure.suptitle(_plain("\n".join(lines)), fontsize="medium")
    return figure


def _draw_slopes(axes: Axes, rows: tuple[Move, ...]) -> None:
    # Ranks may lie far apart: the left column holds the shown passages in their old order, each with its true rank.
    old = {move.doc_id: place for place, move in enumerate(sorted(rows, key=lambda move: move.before))}
    for place, move in enumerate(rows):
        colour = _ROSE if move.climbed > 0 else _FELL if move.climbed < 0 else _STAYED
        axes.plot([0, 1], [old[move.doc_id], place], color=colour, marker="o", markersize=4, linewidth=1.6)
        axes.text(-0.06, old[move.doc_id], str(move.before), ha="right", va="center", fontsize="small")
        label = move.title if len(move.title) <= _LABEL_CHARACTERS else move.title[: _LABEL_CHARACTERS - 1] + "…"
        axes.text(1.06, place, f"{move.after}", ha="left", va="center", fontsize="small", fontweight="bold")
        axes.text(1.24, place, _plain(label), ha="left", va="center", fontsize="small")
    axes.set_xlim(-0.25, 4.2)
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set_yticks([])
    axes.set_title("Rank", loc="left", fontsize="small")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _draw_pulls(axes: Axes, moves: Moves) -> None:
    names = list(moves.weights)
    thick = 0.74 / len(names)
    places = np.arange(len(moves.moves))
    for number, name in enumerate(names):
        values = [move.pulls[name] for move in moves.moves]
        offset = (number - (len(names) - 1) / 2) * thick
        axes.barh(
            places + offset,
            values,
            height=thick,
            color=_PARTS[number % len(_PARTS)],
            label=f"{name} × {moves.weights[name]:g}",
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([])
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("above the mean candidate (nats)", fontsize="small")
    axes.tick_params(axis="x", labelsize="small")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), fontsize="small", frameon=False, borderpad=0.1, ncols=1)


def _draw_tokens(figure: Figure, axes: Axes, rows: tuple[Move, ...]) -> None:
    # Tokens differ far more from each other than passages do: drawn as they are, all rows would look the same.
    named = next(move.tokens for move in rows if move.tokens)
    values = np.array([[value for _, value in move.tokens] or [np.nan] * len(named) for move in rows])
    above = (values - np.nanmean(values, axis=0))[:, :_MOST_TOKENS]
    widest = max(float(np.nanmax(np.abs(above))), 1e-6)
    image = axes.imshow(above, aspect="auto", cmap="PuOr_r", vmin=-widest, vmax=widest)
    labels = [_plain(token.lstrip("▁Ġ") or token) for token, _ in named[:_MOST_TOKENS]]
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize="small")
    axes.set_yticks([])
    cut = f" (the first {_MOST_TOKENS} of {len(named)})" if len(named) > _MOST_TOKENS else ""
    axes.set_title(
        f"the query's tokens{cut}: log-likelihood\nabove the mean of these passages", loc="left", fontsize="small"
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize="small")


def _write_words(axes: Axes, rows: tuple[Move, ...]) -> None:
    for place, move in enumerate(rows):
        told = sorted(move.tokens, key=lambda pair: -abs(pair[1]))[:_MOST_WORDS]
        line = ",  ".join(
            f"{textwrap.shorten(word, _WORD_CHARACTERS, placeholder='…')} {value:+.2f}"
            for word, value in told
            if abs(value) >= 0.005
        )
        axes.text(0.0, place, _plain(line), ha="left", va="center", fontsize="small")
    axes.set_axis_off()
    axes.set_title("words that matter most, and what they add", loc="left", fontsize="small")


def _plain(text: str) -> str:
    """Dollar signs as they are: matplotlib would set what stands between two of them as mathematics."""
    return text.replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    try:
        module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plots") from error
    figure: Figure = module.Figure(figsize=(width, height), layout="constrained")
    return figure
