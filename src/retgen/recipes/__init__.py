"""Recipes: one YAML per published table, and the runner that executes it stage by stage.

A recipe names its stages (each of a registered kind), the rows they make and the columns to show. The runner makes
just what the asked rows need, skips what is finished, resumes what was stopped; the report merges rows and seeds.
"""

from __future__ import annotations

from retgen.recipes.context import StageContext, StageError
from retgen.recipes.events import Event, Listener
from retgen.recipes.loading import load_recipe
from retgen.recipes.report import Report, make_report
from retgen.recipes.result_files import load_results
from retgen.recipes.results import Results, RowResult
from retgen.recipes.runner import run_recipe
from retgen.recipes.sources import builtin_recipes
from retgen.recipes.spec import SCALES, Recipe
from retgen.recipes.stages import stage

__all__ = [
    "SCALES",
    "Event",
    "Listener",
    "Recipe",
    "Report",
    "Results",
    "RowResult",
    "StageContext",
    "StageError",
    "builtin_recipes",
    "load_recipe",
    "load_results",
    "make_report",
    "run_recipe",
    "stage",
]
