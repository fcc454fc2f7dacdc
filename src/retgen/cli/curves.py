"""``retgen curves``: UniGen's two pictures: learning curves, and measures against rounds of iteration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.running import messages, write_json
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.evaluate.plots import Curve


def curves(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR... | MODEL...",
            help="A folder that retgen run wrote to; or models that retgen train unigen made, one for each seed.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The picture: .png, .svg or .pdf.", show_default=False)],
    iterations: Annotated[
        bool, typer.Option("--iterations", help="Draw test questions against rounds, not dev against steps.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option(help="The recipe's stage [base; with --iterations iterations].", show_default=False)
    ] = None,
    title: Annotated[str, typer.Option(help="Above the picture.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Draw MRR@10 and EM, mean and deviation over seeds: on dev questions against training steps, or by round.

    Of a run's folder only the seeds are drawn that its present results are of.

    Examples:

      retgen run almanac-curves --seeds 3 && retgen curves runs/almanac-curves-local --out curves.png

      retgen curves my-model --out curves.svg

      retgen curves --iterations runs/squad-local --out rounds.png
    """
    from retgen.evaluate.plots import iteration_curves, learning_curves, save_figure
    from retgen.recipes.curves import curves as curves_of
    from retgen.recipes.curves import model_curves, round_curves
    from retgen.store import MANIFEST

    models = [folder for folder in folders if (folder / MANIFEST).exists()]
    if len(models) < len(folders) and len(folders) > 1:
        raise UsageError("a run has a picture of its own", mend="Give one folder of a run, or models and nothing else")
    if models and (iterations or stage is not None):
        raise UsageError(
            "a model keeps its training's measures, not rounds or stages",
            where="--iterations" if iterations else "--stage",
            mend="Give the folder that retgen run wrote to",
        )
    if iterations:
        pair = round_curves(folders[0], stage or "iterations")
        figure = iteration_curves(*pair, title=title)
    else:
        pair = model_curves(folders) if models else curves_of(folders[0], stage or "base")
        figure = learning_curves(*pair, title=title)
    save_figure(figure, out)
    if as_json:
        said: dict[str, object] = {"out": str(out)}
        if models:
            said["models"] = [str(folder) for folder in folders]
        else:
            said["stage"] = stage or ("iterations" if iterations else "base")
        write_json({**said, **{curve.name: _points(curve, "round" if iterations else "step") for curve in pair}})
        return
    messages().print(f"Written: {out}", markup=False)


def _points(curve: Curve, what: str) -> list[dict[str, object]]:
    import numpy as np

    # NaN, which JSON has not, stands where a seed has no value at a position.
    return [
        {what: int(position), "values": [None if value != value else float(value) for value in values]}
        for position, values in zip(np.asarray(curve.positions), np.asarray(curve.values).T, strict=True)
    ]
