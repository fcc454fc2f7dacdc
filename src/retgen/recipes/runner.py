"""Runs a recipe: just the stages that the asked rows need, each once; stopped and started again, it goes on.

In the output folder: ``stages/`` holds finished stages, ``scratch/`` what unfinished ones may resume from, ``cache/``
what only saves time, ``results/`` one small JSON per row and seed (`retgen.recipes.result_files`), ``failures/`` the
tracebacks of stages that failed.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retgen import store
from retgen.errors import ArtefactError, LockedError, MissingExtraError, RetgenError, UsageError
from retgen.recipes.assembling import make_result
from retgen.recipes.context import StageError
from retgen.recipes.events import Event, Listener
from retgen.recipes.isolated import perform_isolated
from retgen.recipes.loading import load_recipe
from retgen.recipes.plan import PlannedRow, PlannedStage, Planner
from retgen.recipes.provenance import command_line
from retgen.recipes.result_files import set_aside, write_definition, write_result
from retgen.recipes.results import Definition, Results, RowResult
from retgen.recipes.spec import Recipe
from retgen.recipes.work import Job, Record, perform, read_record
from retgen.store import write_atomic
from retgen.store.manifest import check_files, read_manifest

KIND = "stage"
_LOOK_AGAIN = 1.0
"""Seconds between looks at a stage that another process makes."""


def run_recipe(
    recipe: Recipe | str | Path,
    data: str | Path | None,
    out: str | Path,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    scale: str | None = None,
    progress: Listener | None = None,
    command: str | None = None,
) -> Results:
    """Run what a recipe's rows need, and write and return their results.

    Finished stages are skipped, torn ones made again, stopped ones resumed where their kind can. A row is written as
    soon as it is done, so that an interruption (``KeyboardInterrupt`` goes through) loses the running stage at most.

    Args:
        recipe: a recipe, a file, or a built-in name.
        data: the data folder, where the recipe needs one.
        out: where everything goes; the same folder again goes on with it.
        rows: names of rows; all by default.
        seeds: training seeds; the recipe's by default. Stages that are not seeded are shared by all.
        scale: which of the recipe's scales, ``"local"`` by default. A `Recipe` has its own.
        progress: told of every event.
        command: for the record; the command line of this process by default.

    Returns:
        The results of these rows and seeds. Rows that are optional and lack an extra are left out.

    Raises:
        UsageError: an unknown row, kind, argument or scale; missing data; no seeds.
        StageError: a stage failed; the message says which and how to go on.
    """
    if isinstance(recipe, Recipe):
        if scale not in {None, recipe.scale}:
            raise UsageError(f"this recipe was loaded at scale {recipe.scale!r}, not {scale!r}")
    else:
        recipe = load_recipe(recipe, scale=scale or "local")
    chosen = recipe.seeds if seeds is None else list(seeds)
    if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 0:
        raise UsageError(f"seeds must be different numbers from 0 on, got {chosen}", where="--seeds")
    folder = Path(data).resolve() if data is not None else None
    planner = Planner(recipe, folder)
    planned = planner.rows(rows, chosen)
    listen = progress or (lambda _event: None)
    runner = _Runner(
        Path(out).resolve(), folder, listen, command or command_line([Path(sys.argv[0]).name, *sys.argv[1:]])
    )
    for needed in {stage.folder_name: stage for row in planned for stage in row.stages()}.values():
        listen(Event("planned", needed.name, needed.seed))
    place = runner.out / "results"
    write_definition(place, recipe)
    for name, file in set_aside(place, _current(planner, chosen[0])):
        listen(Event("message", name, text=f"made with other settings, moved aside: {file}"))
    results: list[RowResult] = []
    for row in planned:
        records = runner.row(row, optional=recipe.rows[row.name].optional)
        if records is not None:
            result = make_result(recipe, row, records, [runner.place(need) for need in row.needs])
            write_result(place, result)
            results.append(result)
            listen(Event("row", row.name, row.seed, text=f"results/{result.file_name}"))
    return Results(Definition.of(recipe), tuple(results))


def _current(planner: Planner, seed: int) -> dict[str, tuple[str, bool]]:
    """Row → its key and whether all seeds share it, also of rows not asked for, where their data is there."""
    found = {}
    for name in planner.recipe.rows:
        with contextlib.suppress(UsageError):
            row = planner.row(name, seed)
            found[name] = (row.key, row.seed is None)
    return found


@dataclass(slots=True)
class _Runner:
    """Makes stages, each once."""

    out: Path
    data: Path | None
    listen: Listener
    command: str
    records: dict[str, Record] = field(default_factory=dict)

    def place(self, planned: PlannedStage) -> Path:
        """Where a finished stage stands."""
        return self.out / "stages" / planned.folder_name

    def row(self, row: PlannedRow, *, optional: bool) -> list[tuple[PlannedStage, Record]] | None:
        """The records of a row's stages, made where needed; None where it is optional and an extra is missing."""
        try:
            return [(planned, self._ensure(planned)) for planned in row.stages()]
        except MissingExtraError as error:
            if not optional:
                raise
            self.listen(Event("row", row.name, row.seed, text=f"left out: {error}"))
            return None

    def _ensure(self, planned: PlannedStage) -> Record:
        if planned.folder_name not in self.records:
            record = self._finished_or_made(planned)
            self._tidy(planned)
            self.records[planned.folder_name] = record
        return self.records[planned.folder_name]

    def _finished_or_made(self, planned: PlannedStage) -> Record:
        """The stage's record; while another process makes it, wait until it has, or has given up."""
        said = False
        while True:
            try:
                record = self._finished(planned)
                if record is None:
                    return self._make(planned)
            except LockedError:
                if not said:
                    text = "another process makes it: waiting for that"
                    self.listen(Event("message", planned.name, planned.seed, text=text))
                said = True
                time.sleep(_LOOK_AGAIN)
            else:
                self.listen(Event("skipped", planned.name, planned.seed, seconds=record.costs.wall_seconds))
                return record

    def _finished(self, planned: PlannedStage) -> Record | None:
        place = self.place(planned)
        try:
            store.open_folder(place, kind=KIND)
            return read_record(place)
        except LockedError:
            raise
        except ArtefactError as error:
            if not place.exists():
                return None
            if _is_whole(place):
                raise
            # The name holds the key: nobody but a runner makes such a folder here.
            shutil.rmtree(place)
            self.listen(Event("message", planned.name, planned.seed, text=f"made again: {error.what}"))
            return None

    def _make(self, planned: PlannedStage) -> Record:
        place = self.place(planned)
        again = "Run the same command again to go on from here: finished stages are kept"
        try:
            with store.create(place, kind=KIND, made_by={"stage": planned.name, "key": planned.key}) as folder:
                scratch = self._scratch(planned)
                scratch.mkdir(parents=True, exist_ok=True)
                resumes = "resumed" if any(scratch.iterdir()) else ""
                self.listen(Event("started", planned.name, planned.seed, text=resumes))
                job = self._job(planned, folder, scratch)
                (perform_isolated if planned.isolated else perform)(job, self.listen)
        except LockedError:
            raise
        except MissingExtraError as error:
            self.listen(Event("failed", planned.name, planned.seed, text=str(error)))
            raise
        except Exception as error:
            self.listen(Event("failed", planned.name, planned.seed, text=str(error)))
            trace = self._trace(planned)
            write_atomic(trace, "".join(traceback.format_exception(error)))
            raise _failed(planned, error, f"The traceback is in {trace}. {again}") from error
        record = read_record(place)
        self.listen(Event("finished", planned.name, planned.seed, seconds=record.costs.wall_seconds))
        return record

    def _job(self, planned: PlannedStage, folder: Path, scratch: Path) -> Job:
        return Job(
            kind=planned.kind.name,
            module=planned.kind.function.__module__,
            name=planned.name,
            seed=planned.seed if planned.seeded else None,
            params=planned.params,
            folder=str(folder),
            scratch=str(scratch),
            cache=str(self.out / "cache"),
            journal=str(self._journal(planned)),
            inputs={role: str(self.place(needed)) for role, needed in planned.needs.items()},
            data=None if self.data is None else str(self.data),
            data_files=planned.data_files,
            command=self.command,
            key=planned.key,
        )

    def _scratch(self, planned: PlannedStage) -> Path:
        return self.out / "scratch" / planned.folder_name

    def _journal(self, planned: PlannedStage) -> Path:
        return self.out / "scratch" / f"{planned.folder_name}.costs.json"

    def _trace(self, planned: PlannedStage) -> Path:
        return self.out / "failures" / f"{planned.folder_name}.txt"

    def _tidy(self, planned: PlannedStage) -> None:
        shutil.rmtree(self._scratch(planned), ignore_errors=True)
        self._journal(planned).unlink(missing_ok=True)
        self._trace(planned).unlink(missing_ok=True)
        for name in ("scratch", "failures"):
            with contextlib.suppress(OSError):
                (self.out / name).rmdir()


def _failed(planned: PlannedStage, error: Exception, again: str) -> StageError:
    name = planned.name if planned.seed is None else f"{planned.name} (seed {planned.seed})"
    if isinstance(error, RetgenError):
        what = f"the stage {name!r} failed: {error.what}"
        mend = f"{error.mend.rstrip('.')}. {again}" if error.mend else again
        return StageError(what, where=error.where, mend=mend)
    return StageError(f"the stage {name!r} failed: {type(error).__name__}: {error}", mend=again)


def _is_whole(place: Path) -> bool:
    """Whether a refused folder is whole after all: then it is a newer version's, and must not be removed."""
    try:
        check_files(read_manifest(place, any_version=True), contents=False)
        read_record(place)
    except ArtefactError:
        return False
    return True
