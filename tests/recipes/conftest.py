"""A recipe over a handful of documents, and what happened while it ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from retgen.recipes import Event, Results, run_recipe
from retgen.recipes.merging import merge

COLLECTION = {
    "documents": {
        "oxygen": "Oxygen is a gas that plants give off and animals breathe.",
        "iron": "Iron is a grey metal that rusts in wet air.",
        "gold": "Gold is a yellow metal that does not rust.",
        "rhine": "The Rhine is a river that flows through Basel and Cologne.",
        "nile": "The Nile is a long river that flows north to the sea.",
    },
    "questions": {
        "q1": "which metal rusts in wet air?",
        "q2": "which river flows through Basel?",
        "q3": "what do animals breathe?",
        "q4": "which metal is yellow?",
        "q5": "which river is long?",
        "q6": "what flows north?",
    },
    "relevant": {"q1": "iron", "q2": "rhine", "q3": "oxygen", "q4": "gold", "q5": "nile", "q6": "rhine"},
}

RECIPE: dict[str, Any] = {
    "name": "toy",
    "description": "Five documents",
    "modules": ["tests.recipes.toy_stages"],
    "data": {"about": "Made by the tests", "files": ["collection.json"]},
    "baseline": "bm25",
    "stages": {
        "corpus": {"kind": "toy-corpus", "data": ["collection.json"]},
        "bm25": {"kind": "toy-bm25", "needs": ["corpus"]},
        "fit": {"kind": "toy-fit", "needs": {"corpus": "corpus", "run": "bm25"}, "tags": ["train"]},
        "score-bm25": {"kind": "toy-evaluate", "needs": {"corpus": "corpus", "run": "bm25"}},
        "score-fit": {"kind": "toy-evaluate", "needs": {"corpus": "corpus", "run": "fit"}},
    },
    "rows": {
        "bm25": {"label": "BM25", "needs": ["score-bm25"]},
        "fit": {"label": "BM25 + prior", "needs": ["score-fit"]},
    },
    "columns": ["RR@10", "R@1", "BLEU-1", {"key": "train s", "cost": {"of": "wall_seconds", "over": ["train"]}}],
}


class Folder:
    """A recipe, its data and its output folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = place / "data"
        self.out = place / "out"
        self.recipe = place / "toy.yaml"
        self.events: list[Event] = []
        self.data.mkdir(parents=True)
        self.write_data(COLLECTION)
        self.write({})

    def write(self, changes: Mapping[str, Any], base: Mapping[str, Any] = RECIPE) -> None:
        """Write the recipe with changes merged in; None removes a key."""
        content = {key: value for key, value in merge(base, changes).items() if value is not None}
        self.recipe.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def write_data(self, content: Mapping[str, Any]) -> None:
        """Write the data file."""
        (self.data / "collection.json").write_text(json.dumps(content), encoding="utf-8")

    def run(self, **options: Any) -> Results:
        """Run it; the events of this run alone are kept."""
        self.events = []
        settings = {"data": self.data, "out": self.out, "progress": self.events.append, "command": "retgen run toy"}
        return run_recipe(self.recipe, **{**settings, **options})

    def stages(self, state: str) -> list[str]:
        """Names of the stages of this state in the last run, in order; seeded ones as name/seed."""
        return [
            event.name if event.seed is None else f"{event.name}/{event.seed}"
            for event in self.events
            if event.state == state
        ]

    def results(self) -> dict[str, dict[str, Any]]:
        """Every result file, without what differs from one run to the next: times, memory, who and when."""
        found = {}
        for path in sorted((self.out / "results").glob("*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            content.pop("made_by", None)
            content["stages"] = {name: stage["key"] for name, stage in content.get("stages", {}).items()}
            if isinstance(content.get("values"), dict):
                content["values"].pop("train s", None)
            found[path.name] = content
        for path in sorted((self.out / "results" / "per-question").glob("*.gz")):
            found[path.name] = {"bytes": path.read_bytes()}
        return found


@pytest.fixture
def toy(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "toy")


@pytest.fixture
def another(tmp_path: Path) -> Callable[[str], Folder]:
    return lambda name: Folder(tmp_path / name)
