"""``retgen curves``: the learning curves of a recipe's training, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retgen.cli.running import messages, write_json


def curves(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that retgen run wrote to.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The picture: .png, .svg or .pdf.", show_default=False)],
    stage: Annotated[str, typer.Option(help="The training stage.")] = "base",
    title: Annotated[str, typer.Option(help="Above the picture.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Draw MRR@10 and EM on dev questions against training steps, mean and deviation over seeds.

    Example:

      retgen run almanac-curves --seeds 3 && retgen curves runs/almanac-curves-local --out curves.png
    """
    import numpy as np

    from retgen.evaluate.plots import learning_curves, save_figure
    from retgen.recipes.curves import curves as curves_of

    retrieval, answers = curves_of(folder, stage)
    save_figure(learning_curves(retrieval, answers, title=title), out)
    if as_json:
        # NaN, which JSON has not, stands where a seed has no value at a step.
        points = {
            curve.name: [
                {"step": int(step), "values": [None if value != value else float(value) for value in values]}
                for step, values in zip(np.asarray(curve.positions), np.asarray(curve.values).T, strict=True)
            ]
            for curve in (retrieval, answers)
        }
        write_json({"out": str(out), "stage": stage, **points})
        return
    messages().print(f"Written: {out}", markup=False)
