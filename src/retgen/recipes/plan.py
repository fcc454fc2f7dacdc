"""From a recipe to the work: which stages the rows need, in which order, and the key of each.

A stage's key is the hash of all that its result depends on: kind, code version, arguments, the keys of the stages it
needs, the content of its data files, and the seed where it is seeded.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from retgen.errors import UsageError
from retgen.recipes.spec import Recipe, StageSpec
from retgen.recipes.stages import StageKind, stage_kind
from retgen.recipes.yaml_source import unknown_name


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage with everything resolved, for one seed or for all.

    Args:
        name: in the recipe.
        kind: the registered kind.
        params: arguments as JSON values, defaults included.
        needs: role → stage.
        data_files: relative path → SHA-256.
        seed: None where it and all it needs are the same for every seed.
        seeded: whether it may ask for the seed itself.
        isolated: whether it runs in a process of its own.
        handles: name, kind and tags.
        key: hash of all it depends on.
        seedless_key: the same with every seed left out: equal for the runs of one system.
    """

    name: str
    kind: StageKind
    params: Mapping[str, Any]
    needs: Mapping[str, PlannedStage]
    data_files: Mapping[str, str]
    seed: int | None
    seeded: bool
    isolated: bool
    handles: frozenset[str]
    key: str
    seedless_key: str

    @property
    def folder_name(self) -> str:
        """Of its finished folder, e.g. ``train-seed0-3f2a9c0d1b2e``."""
        return f"{self.name}{'' if self.seed is None else f'-seed{self.seed}'}-{self.key[:12]}"

    def closure(self) -> list[PlannedStage]:
        """It and all that it needs, what is needed first."""
        found: dict[str, PlannedStage] = {}

        def visit(planned: PlannedStage) -> None:
            if planned.folder_name not in found:
                for needed in planned.needs.values():
                    visit(needed)
                found[planned.folder_name] = planned

        visit(self)
        return list(found.values())


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row for one seed, or for all where no stage of it is seeded.

    Args:
        name: in the recipe.
        seed: None where all seeds share it.
        needs: the stages whose reports make it.
        key: hash of what it depends on but the seed: rows of one key are one system.
    """

    name: str
    seed: int | None
    needs: tuple[PlannedStage, ...]
    key: str

    def stages(self) -> list[PlannedStage]:
        """All stages it needs, directly or not, what is needed first."""
        return list({planned.folder_name: planned for need in self.needs for planned in need.closure()}.values())


@dataclass(slots=True)
class Planner:
    """Resolves the rows and stages of a recipe, each once.

    Args:
        recipe: whose stages are all checked at once, needed or not, so that a slip anywhere is met in the first second.
        data: the data folder, or None.

    Raises:
        UsageError: an unknown kind, argument or need, or missing data.
    """

    recipe: Recipe
    data: Path | None
    stages: dict[tuple[str, int | None], PlannedStage] = field(default_factory=dict)
    asked: dict[tuple[str, int], PlannedStage] = field(default_factory=dict)
    kinds: dict[str, StageKind] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _import(self.recipe)
        _check_data(self.recipe, self.data)
        for name, spec in self.recipe.stages.items():
            kind = stage_kind(spec.kind, where=self.recipe.where("stages", name, "kind"))
            arguments = kind.check_params(self.recipe.params_of(name), where=partial(self._where, name))
            kind.check_needs(spec.needs, where=self.recipe.where("stages", name, "needs"))
            self.kinds[name] = kind
            self.arguments[name] = arguments.model_dump(mode="json")

    def rows(self, names: Sequence[str] | None, seeds: Sequence[int]) -> list[PlannedRow]:
        """The rows to make, seed by seed; rows that all seeds share come once, with the first.

        Args:
            names: of rows; all by default. They come in the recipe's order.
            seeds: at least one.

        Raises:
            UsageError: an unknown row, or data files that are not there.
        """
        for name in names or ():
            if name not in self.recipe.rows:
                raise unknown_name("row", name, self.recipe.rows, where=self.recipe.where())
        asked = [name for name in self.recipe.rows if names is None or name in names]
        planned: dict[tuple[str, int | None], PlannedRow] = {}
        for seed in seeds:
            for name in asked:
                if self.recipe.rows[name].needs:
                    row = self.row(name, seed)
                    planned.setdefault((row.name, row.seed), row)
        return list(planned.values())

    def row(self, name: str, seed: int) -> PlannedRow:
        """One row for one seed."""
        needs = tuple(self.stage(needed, seed) for needed in self.recipe.rows[name].needs)
        shared = all(need.seed is None for need in needs)
        return PlannedRow(name, None if shared else seed, needs, _hash([need.seedless_key for need in needs]))

    def _where(self, stage: str, argument: str) -> str:
        spec = self.recipe.stages[stage]
        if argument in spec.params or argument not in self.recipe.defaults.get(spec.kind, {}):
            return self.recipe.where("stages", stage, "params", argument)
        return self.recipe.where("defaults", spec.kind, argument)

    def stage(self, name: str, seed: int) -> PlannedStage:
        """One stage for one seed."""
        if (name, seed) in self.asked:
            return self.asked[name, seed]
        spec = self.recipe.stages[name]
        needs = {role: self.stage(needed, seed) for role, needed in sorted(spec.needs.items())}
        seeded = self._seeded(name, spec)
        own_seed = seed if seeded or any(need.seed is not None for need in needs.values()) else None
        if (name, own_seed) not in self.stages:
            self.stages[name, own_seed] = self._resolve(name, spec, needs, own_seed, seeded)
        self.asked[name, seed] = self.stages[name, own_seed]
        return self.asked[name, seed]

    def _resolve(
        self, name: str, spec: StageSpec, needs: dict[str, PlannedStage], seed: int | None, seeded: bool
    ) -> PlannedStage:
        kind = self.kinds[name]
        if spec.kind not in self.versions:
            self.versions[spec.kind] = kind.current_version()
        files = self._data_files(name, spec)
        common = [spec.kind, self.versions[spec.kind], kind.keyed(self.arguments[name]), files]
        return PlannedStage(
            name=name,
            kind=kind,
            params=self.arguments[name],
            needs=needs,
            data_files=files,
            seed=seed,
            seeded=seeded,
            isolated=kind.isolated if spec.isolated is None else spec.isolated,
            handles=frozenset({name, spec.kind, *spec.tags}),
            key=_hash([*common, {role: need.key for role, need in needs.items()}, seed if seeded else None]),
            seedless_key=_hash([*common, {role: need.seedless_key for role, need in needs.items()}, seeded]),
        )

    def _seeded(self, name: str, spec: StageSpec) -> bool:
        return self.kinds[name].seeded if spec.seeded is None else spec.seeded

    def _data_files(self, name: str, spec: StageSpec) -> dict[str, str]:
        if spec.data and self.data is None:
            raise UsageError(
                f"the stage {name!r} reads data files",
                where=self.recipe.where("stages", name, "data"),
                mend="Give their folder with --data",
            )
        found: dict[str, str] = {}
        for pattern in spec.data:
            for path in _matching(self.data or Path(), pattern, f"the stage {name!r}"):
                if path not in self.digests:
                    with path.open("rb") as file:
                        self.digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
                found[path.relative_to(self.data or Path()).as_posix()] = self.digests[path]
        return dict(sorted(found.items()))


def _import(recipe: Recipe) -> None:
    for number, module in enumerate(recipe.modules):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise UsageError(
                f"there is no module {module!r}",
                where=recipe.where("modules", number),
                mend="Check its name, and that it is on PYTHONPATH",
            ) from error


def _check_data(recipe: Recipe, data: Path | None) -> None:
    if recipe.data is None:
        return
    about = f"{recipe.data.about.strip().rstrip('.')}. " if recipe.data.about else ""
    if data is None:
        raise UsageError(f"the recipe {recipe.name!r} needs data", mend=f"{about}Give the folder with --data")
    for pattern in recipe.data.files:
        _matching(data, pattern, f"the recipe {recipe.name!r}", about)


def _matching(data: Path, pattern: str, who: str, about: str = "") -> list[Path]:
    if not data.is_dir():
        raise UsageError("there is no such folder", where=data, mend=f"{about}Check --data")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise UsageError(f"{who} reads {pattern!r}, which is not inside the data folder")
    found = sorted(path for path in data.glob(pattern) if path.is_file())
    if not found:
        raise UsageError(f"{who} needs {pattern!r}, which is not there", where=data, mend=f"{about}Check --data")
    return found


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
