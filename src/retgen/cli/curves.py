"""``retgen curves``: UniGen's two pictures: learning curves, and measures against rounds of iteration."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retgen.cli.running import messages, write_json
from retgen.errors import UsageError

if TYPE_CHECKING:
    from retgen.evaluate.plots import Curve
    from retgen.recipes.spec import Recipe

INTERRUPTED = 130


def curves(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR... | RECIPE... | MODEL...",
            help="Folders that retgen run wrote to, or recipes, which are run first: a panel each. Or models that "
            "retgen train unigen made, one for each seed.",
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
    title: Annotated[str, typer.Option(help="Above the picture, where it has one panel.")] = "",
    data: Annotated[Path | None, typer.Option(help="Of recipes: the folder of data, where one needs it.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Of recipes: so many seeds, from 0 on [the recipe's].", min=1)
    ] = None,
    scale: Annotated[str, typer.Option(help="Of recipes: tiny, local, gpu or full.")] = "local",
    runs: Annotated[Path, typer.Option(help="Of recipes: where RECIPE-SCALE, the folder of the run, goes.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Draw MRR@10 and EM, mean and deviation over seeds: on dev questions against training steps, or by round.

    Of a run's folder only the seeds are drawn that its present results are of. Of a recipe the rows are run that the
    picture is of, and their table is printed; stopped, it goes on when the same command is given again.

    Examples:

      retgen curves --iterations almanac-rounds squad-rounds --data squad/ --out rounds.svg

      retgen curves almanac-curves --out curves.png

      retgen curves my-model --out curves.svg

      retgen curves --iterations runs/squad-local --out rounds.png
    """
    from retgen.evaluate.plots import picture_format, save_figure, side_by_side
    from retgen.recipes.curves import model_curves
    from retgen.store import MANIFEST

    picture_format(out)
    models = [source for source in sources if (Path(source) / MANIFEST).exists()]
    if models and len(models) < len(sources):
        raise UsageError("a run has a picture of its own", mend="Give folders of runs, or models and nothing else")
    if models and (iterations or stage is not None):
        raise UsageError(
            "a model keeps its training's measures, not rounds or stages",
            where="--iterations" if iterations else "--stage",
            mend="Give the folder that retgen run wrote to",
        )
    if len(sources) > 1 and not models and title:
        raise UsageError("several panels bear their own names", where="--title", mend="Leave --title out")
    drawn = stage or ("iterations" if iterations else "base")
    if models:
        panels = [(title, *model_curves(models))]
    else:
        work = _Runs(data, seeds, scale, runs, drawn, quiet=as_json)
        places = [(source, work.place(source)) for source in sources]
        panels = [
            (title or (Path(source).name if len(sources) > 1 else ""), *_curves(place, drawn, iterations=iterations))
            for source, place in places
        ]
    x_label = "Number of iterations" if iterations else "Training steps"
    save_figure(side_by_side(panels, x_label=x_label, band=not iterations), out)
    if as_json:
        what = "round" if iterations else "step"
        shown = [{curve.name: _points(curve, what) for curve in pair} for _, *pair in panels]
        said: dict[str, object] = {"out": str(out), **({"models": models} if models else {"stage": drawn})}
        write_json({**said, **(shown[0] if len(shown) == 1 else dict(zip(sources, shown, strict=True)))})
        return
    messages().print(f"Written: {out}", markup=False)


@dataclass(frozen=True)
class _Runs:
    """Finished runs, and recipes that become such."""

    data: Path | None
    seeds: int | None
    scale: str
    runs: Path
    stage: str
    quiet: bool

    def place(self, source: str) -> Path:
        """A run's folder; of a recipe, once the rows are done that need the stage."""
        if Path(source).is_dir():
            return Path(source)
        from retgen.cli.recipe_progress import recipe_progress
        from retgen.recipes import load_recipe, make_report, run_recipe
        from retgen.recipes.provenance import command_line

        loaded = load_recipe(source, scale=self.scale)
        place = self.runs / f"{loaded.name}-{self.scale}"
        try:
            with recipe_progress(messages()) as listen:
                results = run_recipe(
                    loaded,
                    self.data,
                    place,
                    rows=self._rows(loaded),
                    seeds=None if self.seeds is None else list(range(self.seeds)),
                    progress=listen,
                    command=command_line(["retgen", *sys.argv[1:]]),
                )
        except KeyboardInterrupt:
            typer.echo(f"Interrupted. What is finished is kept in {place}: run the same command again", err=True)
            raise typer.Exit(INTERRUPTED) from None
        if not self.quiet:
            sys.stdout.write(make_report(results).render("md") + "\n")
        return place

    def _rows(self, recipe: Recipe) -> list[str]:
        from retgen.recipes.yaml_source import unknown_name

        if self.stage not in recipe.stages:
            raise unknown_name("stage", self.stage, recipe.stages, where=recipe.where("stages"))

        def needs(names: list[str]) -> bool:
            return any(name == self.stage or needs(list(recipe.stages[name].needs.values())) for name in names)

        return [name for name, row in recipe.rows.items() if needs(row.needs)]


def _curves(place: Path, stage: str, *, iterations: bool) -> tuple[Curve, Curve]:
    from retgen.recipes.curves import curves as curves_of
    from retgen.recipes.curves import round_curves

    return round_curves(place, stage) if iterations else curves_of(place, stage)


def _points(curve: Curve, what: str) -> list[dict[str, object]]:
    import numpy as np

    # NaN, which JSON has not, stands where a seed has no value at a position.
    return [
        {what: int(position), "values": [None if value != value else float(value) for value in values]}
        for position, values in zip(np.asarray(curve.positions), np.asarray(curve.values).T, strict=True)
    ]
