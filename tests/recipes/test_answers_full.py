"""The answering tables at the paper's size: what they print beside themselves, and what they share with the others.

Their rows run in `tests/recipes/test_unigen_full.py`, on the stages of the retrieval tables.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from retgen.recipes import load_recipe
from retgen.recipes.plan import Planner
from retgen.recipes.sources import builtin_recipes
from retgen.recipes.writers import Author
from tests.recipes import published
from tests.recipes.paper_tables import TABLE_2, lines
from tests.recipes.paper_tables import published as published_in

LABELS = {
    "GPT-3.5": "GPT-3.5, bare question",
    "LLaMA2": "LLaMA2, bare question",
    "DSI + FiD": "DSI-Semantic + FiD",
    "Ultron + FiD": "Ultron-PQ + FiD",
}
"""Row of the paper's Table 2 → ours, where it is called otherwise."""
MEASURES = {"answers-msmarco": ("BLEU-1", "ROUGE-L"), "answers-nq": ("EM", "F1")}


@pytest.mark.parametrize("name", MEASURES)
def test_the_published_numbers_are_the_papers(name: str) -> None:
    numbers = slice(0, 2) if name == "answers-msmarco" else slice(2, 4)
    paper = {LABELS.get(label, label): values[numbers] for label, values in lines(TABLE_2).items()}
    ours = {label: list(row.values()) for label, row in published_in(name).items()}
    assert ours == paper
    assert {tuple(row) for row in published_in(name).values()} == {MEASURES[name]}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("scale", ["local", "tiny"])
def test_they_load(name: str, scale: str) -> None:
    assert name in builtin_recipes()
    alone = load_recipe(name, scale=scale)
    beside = load_recipe(name, scale=scale, author=Author(model="some/model"))
    assert {row: spec.section for row, spec in beside.rows.items() if row not in alone.rows} == {
        "prompted": "Closed book",
        "written-base": "Closed book",
        "written-iter": "Open book",
        "prompted-jpr": "Beyond the paper",
    }
    # Whatever reads BM25 in a connector's place says so; only what a language model wrote bears the paper's name alone.
    assert all("BM25 context" in spec.label for spec in alone.rows.values() if "base" in spec.needs)
    assert [column.key for column in alone.columns][:2] == list(MEASURES[name])


@pytest.mark.parametrize(("name", "other"), [("answers-msmarco", "unigen-msmarco"), ("answers-nq", "unigen-nq")])
def test_what_the_retrieval_table_has_made_is_not_made_again(tmp_path: Path, name: str, other: str) -> None:
    published.write_dpr(tmp_path)
    published.write_msmarco_qna(tmp_path)
    author = Author(model="some/model")
    made = []
    for recipe in (name, other):
        rows = Planner(load_recipe(recipe, author=author), tmp_path).rows(None, [0])
        made.append({planned.name: planned.folder_name for row in rows for planned in row.stages()})
    shared = made[0].keys() & made[1].keys()
    assert {"dpr-search", "dsi-semantic", "nci", "ultron", "base", "base-iter", "written", "written-iter"} <= shared
    assert {made[0][stage] for stage in shared} == {made[1][stage] for stage in shared}
