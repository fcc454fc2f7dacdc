"""Recipes whose connectors a language model writes: what the block adds, and a whole run through a real endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.connect.files import read_texts
from retgen.corpus import Corpus
from retgen.errors import UsageError
from retgen.index import Index
from retgen.recipes import load_recipe, run_recipe
from retgen.recipes.collections import read_connectors
from retgen.recipes.context import StageError
from retgen.recipes.plan import Planner
from retgen.recipes.writers import Author
from tests.llm.serving import MODEL, delivered, save_chat_model, served, spoiled

AUTHOR = Author(model="some/model")


@pytest.mark.parametrize("name", ["squad", "squad-rounds"])
@pytest.mark.parametrize("scale", ["local", "tiny", "gpu"])
def test_the_block_adds_rows_that_name_the_model_and_leaves_the_others_as_they_are(
    name: str, scale: str, shared_data: Path
) -> None:
    without, with_writer = load_recipe(name, scale=scale), load_recipe(name, scale=scale, author=AUTHOR)
    one, two = Planner(without, shared_data / "squad"), Planner(with_writer, shared_data / "squad")
    new = [row for row in with_writer.rows if row not in without.rows]
    assert new
    assert not any("{model}" in json.dumps(row.model_dump()) for row in with_writer.rows.values())
    assert all(AUTHOR.model in f"{row.section} {row.label}" for row in map(with_writer.rows.get, new) if row)
    for row in without.rows:
        assert one.row(row, 0).key == two.row(row, 0).key
    other = Planner(load_recipe(name, scale=scale, author=Author(model="another")), shared_data / "squad")
    assert all(two.row(row, 0).key != other.row(row, 0).key for row in new)


def test_rows_that_are_written_stand_before_controls() -> None:
    rows = list(load_recipe("squad", author=AUTHOR).rows)
    assert rows.index("fused") < rows.index("written-base") < rows.index("random-docids")


def test_a_recipe_without_the_block_says_so() -> None:
    with pytest.raises(UsageError, match="no connectors for a language model to write"):
        load_recipe("almanac-curves", author=AUTHOR)


def test_without_a_writer_at_hand_the_stage_says_what_to_give(shared_data: Path, tmp_path: Path) -> None:
    recipe = load_recipe("squad", scale="tiny", author=AUTHOR)
    with pytest.raises(StageError, match="Run it with --writer chat --model some/model"):
        run_recipe(recipe, shared_data / "squad", tmp_path, rows=["written-base"])


def _run(data: Path, out: Path, url: str, *more: str) -> Result:
    rows = "unigen-base,written-base,written-iter"
    arguments = ["run", "squad", "--data", str(data / "squad"), "--rows", rows, "--seeds", "1", "--scale", "tiny"]
    chat = ["--writer", "chat", "--endpoint", url, "--model", MODEL, "--max-tokens", "6", "--out", str(out)]
    return CliRunner().invoke(app, [*arguments, *chat, *more])


def _ask(out: Path, index: Path, url: str) -> dict[str, Any]:
    """A question of one's own, by the model that was trained on the writer's connectors."""
    [collection] = out.glob("stages/collection-*")
    [trained] = out.glob("stages/written-seed0-*")
    Index.build(Corpus.open(collection / "corpus"), index)
    ask = ["ask", str(index), "Who won?", "--model", str(trained / "unigen"), "--rounds", "2", "--json"]
    alone = CliRunner().invoke(app, ask)
    assert alone.exit_code == 2
    assert "which an index cannot write" in alone.output
    writer = ["--writer", "chat", "--endpoint", url, "--writer-model", MODEL, "--max-tokens", "6"]
    answered = CliRunner().invoke(app, [*ask, *writer, "--ledger", str(out / "ledger.sqlite")])
    assert answered.exit_code == 0, answered.output
    said: dict[str, Any] = json.loads(answered.stdout)
    return said


@pytest.mark.slow
def test_squad_runs_whole_through_an_endpoint(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out, log = tmp_path / "out", tmp_path / "log"
    save_chat_model(tmp_path / "model", positions=6000)
    secret = "sk-wrong-and-secret"
    with served(tmp_path / "model", "--key", "sk-right") as url:
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        refused = _run(shared_data, out, url)
        assert refused.exit_code == 1
        assert "the endpoint refuses the key in OPENAI_API_KEY" in refused.output
        assert secret not in refused.output
        assert all(secret.encode() not in file.read_bytes() for file in out.rglob("*") if file.is_file())
        monkeypatch.setenv("OPENAI_API_KEY", "sk-right")
        # The first budget ends in the middle of the contexts, and the same command with more goes on.
        stopped = _run(shared_data, out, url, "--budget-tokens", "20000")
        assert stopped.exit_code == 1
        assert "the budget is spent" in stopped.output
        with spoiled(url, log) as proxy:
            done = _run(shared_data, out, proxy, "--json")
            assert done.exit_code == 0, done.output
            asked = sum(delivered(log).values())
            shown = _run(shared_data, out, proxy)
            assert sum(delivered(log).values()) == asked
        answered = _ask(out, tmp_path / "index", url)
    rows = {row["row"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == {"unigen-base", "written-base", "written-iter"}
    assert 0 < rows["written-base"]["values"]["tokens"] < rows["written-iter"]["values"]["tokens"]
    assert rows["unigen-base"]["values"]["R@10"] > 0.8  # the context names the passage; the tiny model's cannot
    assert "UniGen-Base, BM25 context" in shown.output
    assert f"UniGen-Base, connectors by {MODEL}" in shown.output

    assert [each["round"] for each in answered["rounds"]] == [0, 1, 2]
    assert answered["context_by"] == MODEL
    assert answered["passages"]

    [contexts] = out.glob("stages/q-connectors-*")
    [docids] = out.glob("stages/d-connectors-*")
    [rounds] = out.glob("stages/written-iterations-*")
    written = read_texts(docids / "docids.jsonl")
    assert len(written) == json.loads((docids / "quality.json").read_text())["documents"] == 60
    assert {text.writer for text in written.values()} <= {MODEL, "lead"}
    for query in read_connectors(contexts / "test.jsonl"):
        assert query.connector is not None
        assert (query.connector.writer, query.connector.round) == (MODEL, 0)
    later = read_connectors(rounds / "round2.connectors.jsonl")
    assert {query.connector.round for query in later if query.connector} == {2}
    assert (rounds / "round2.run").exists()
