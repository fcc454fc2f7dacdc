"""``retgen fuse``: what ``retgen tune`` found, used; and weights by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.evaluate import evaluate_run
from retgen.formats import read_run, write_qrels, write_run
from retgen.rerank.fusion import combine, join_runs
from retgen.types import Qrels, Run
from tests.rerank.test_tuning import collection


def retgen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def given() -> tuple[Run, Qrels]:
    run, qrels = collection()
    return run, {query_id: grades for query_id, grades in qrels.items() if grades}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, given: tuple[Run, Qrels]) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_run(folder / "jpr.trec", given[0])
    write_qrels(folder / "qrels.tsv", given[1])
    return folder


@pytest.mark.parametrize("scale", ["log-softmax", "z", "raw"])
def test_what_was_tuned_has_the_value_that_was_found(
    place: Path, given: tuple[Run, Qrels], scale: str, tmp_path: Path
) -> None:
    weights, out = tmp_path / "weights.json", tmp_path / "fused.trec"
    tuned = retgen("tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", "--scale", scale, "--out", weights)
    assert tuned.exit_code == 0, tuned.output
    made = retgen("fuse", place / "jpr.trec", "--weights", weights, "--out", out, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["scale"] == scale.replace("-", "_")
    fused = read_run(out)
    assert {"cross_encoder", "generator", "fused"} <= set(fused.component_names)
    expected = json.loads(weights.read_text())["value"]
    assert evaluate_run(fused, given[1], ["RR@10"]).means["RR@10"] == pytest.approx(expected, abs=1e-12)


def test_several_runs_by_their_files_names(place: Path, given: tuple[Run, Qrels], tmp_path: Path) -> None:
    parts = {
        name: Run.from_dict(
            {
                query_id: dict(zip(given[0].doc_ids(query_id), given[0].scores(query_id, component), strict=True))
                for query_id in given[0].query_ids
            }
        )
        for name, component in (("words", "cross_encoder"), ("sense", "generator"))
    }
    for name, run in parts.items():
        write_run(tmp_path / f"{name}.trec", run)
    out = tmp_path / "fused.trec"
    made = retgen(
        "fuse", tmp_path / "words.trec", tmp_path / "sense.trec", "--weights", "words=0.3,sense=0.7", "-k", "3",
        "--out", out,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    expected = combine(join_runs(parts), {"words": 0.3, "sense": 0.7}, k=3)
    assert {query_id: list(read_run(out).doc_ids(query_id)) for query_id in expected.query_ids} == {
        query_id: list(expected.doc_ids(query_id)) for query_id in expected.query_ids
    }


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("cross_encoder=much,generator=1", "is not name=number"),
        ("cross_encoder=0.5,sense=0.5", "sense"),
        ("nowhere.json", "cannot be read"),
        ("cross_encoder=-1,generator=1", "at least 0"),
    ],
)
def test_weights_that_cannot_be_are_named(place: Path, weights: str, message: str, tmp_path: Path) -> None:
    made = retgen("fuse", place / "jpr.trec", "--weights", weights, "--out", tmp_path / "fused.trec")
    assert made.exit_code == 2
    assert message in " ".join(made.output.split())
    assert not (tmp_path / "fused.trec").exists()


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"weights": 3, "scale": "z"}', '{"weights": {"a": "b"}, "scale": "z"}']
)
def test_a_file_that_tune_did_not_write_is_named(place: Path, content: str, tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text(content)
    made = retgen("fuse", place / "jpr.trec", "--weights", tmp_path / "weights.json", "--out", tmp_path / "fused.trec")
    assert made.exit_code != 0
    assert "holds no weights" in made.output
