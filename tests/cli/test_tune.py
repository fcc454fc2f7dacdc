"""``retgen tune``: the curve of one run's components, grids of three, and runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.evaluate import evaluate_run
from retgen.formats import write_qrels, write_run
from retgen.rerank.fusion import fuse
from retgen.rerank.joint import joint_scores
from retgen.rerank.tuning import tune
from retgen.types import Qrels, Run
from tests.rerank.test_tuning import collection


def retgen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def found(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return dict(json.loads(line))


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


def test_the_curve_is_the_library_s(place: Path, given: tuple[Run, Qrels]) -> None:
    value = found(retgen("tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", "--json"))
    expected = tune(*given)
    assert value["generator_weight"] == expected.generator_weight
    assert value["value"] == pytest.approx(expected.value, abs=1e-12)
    assert [(row["weights"]["generator"], row["value"]) for row in value["curve"]] == [
        pytest.approx(point) for point in expected.curve
    ]
    scored = evaluate_run(joint_scores(given[0], generator_weight=value["generator_weight"]), given[1], ["RR@10"])
    assert value["value"] == pytest.approx(scored.means["RR@10"], abs=1e-12)


def test_shown_as_a_table_with_the_best_and_its_interval(place: Path) -> None:
    result = retgen("tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", "-m", "nDCG@10", "--step", "0.25")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert sum("← best" in line for line in lines) == 1
    assert [line.split()[1] for line in lines[1:6]] == ["0", "0.25", "0.5", "0.75", "1"]
    assert any(line.startswith("best: cross_encoder=") and "nDCG@10" in line and "[" in line for line in lines)
    assert any(line.startswith("over generator alone") for line in lines)
    assert any("95% intervals" in line for line in lines)


def test_files_of_weights_and_of_the_picture(place: Path, tmp_path: Path) -> None:
    result = retgen(
        "tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", "--out", tmp_path / "weights.json",
        "--picture", tmp_path / "curve.png",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    weights = json.loads((tmp_path / "weights.json").read_text())
    assert sum(weights["weights"].values()) == pytest.approx(1)
    assert weights["interval"]["low"] <= weights["value"] <= weights["interval"]["high"]
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_three_components(place: Path) -> None:
    arguments = ["tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", "--step", "0.25"]
    value = found(retgen(*arguments, "--components", "bm25,cross_encoder,generator", "--json"))
    assert value["scale"] == "z"
    assert len(value["curve"]) == 15
    assert value["value"] == max(row["value"] for row in value["curve"])
    raw = found(retgen(*arguments, "--components", "bm25, cross_encoder, generator", "--scale", "raw", "--json"))
    assert raw["scale"] == "raw"
    shown = retgen(*arguments, "--components", "bm25,cross_encoder,generator")
    assert "The best 10 of 15 points" in shown.stdout
    assert "← best" in shown.stdout


def test_two_runs_are_fused_as_the_library_fuses(tmp_path: Path) -> None:
    first = Run.from_dict({"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {"a": 2.0, "b": 1.0}})
    second = Run.from_dict({"q": {"b": 9.0, "d": 8.0}, "r": {"c": 1.0, "b": 0.5}})
    qrels = {"q": {"b": 1}, "r": {"b": 1}}
    write_run(tmp_path / "bm25.trec", first)
    write_run(tmp_path / "dense.trec", second)
    write_qrels(tmp_path / "qrels.tsv", qrels)
    result = retgen(
        "tune", tmp_path / "bm25.trec", tmp_path / "dense.trec", "--qrels", tmp_path / "qrels.tsv", "--json"
    )
    value = found(result)
    assert value["components"] == ["bm25", "dense"]
    for row in value["curve"]:
        fused = fuse(first, second, row["weights"]["dense"])
        assert row["value"] == pytest.approx(evaluate_run(fused, qrels, ["RR@10"]).means["RR@10"], abs=1e-12)
    assert "bm25 lacks 2 documents" in result.stderr
    assert "dense lacks 3 documents" in result.stderr


def test_a_run_of_one_component_or_none(place: Path, given: tuple[Run, Qrels], tmp_path: Path) -> None:
    write_run(tmp_path / "bare.trec", Run.from_dict(given[0].to_dict()))
    result = retgen("tune", tmp_path / "bare.trec", "--qrels", place / "qrels.tsv")
    assert result.exit_code == 2
    assert "it carries none" in result.stderr
    assert "--with jpr" in result.stderr
    named = retgen("tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", "--components", "bm25,colbert")
    assert named.exit_code == 2
    assert "no component 'colbert'; it carries bm25, cross_encoder, generator" in named.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--step", "0.3"], "does not divide 1"),
        (["--scale", "softmax"], "unknown scale"),
        (["-m", "Brilliance"], "unknown retrieval measure"),
        (["--picture", "curve.gif"], "suffix '.gif'"),
        (["--components", "bm25,cross_encoder,generator", "--picture", "curve.png"], "of two components, not of 3"),
        (["--components", "bm25"], "two or more different"),
        (["--components", "bm25,bm25"], "against itself"),
    ],
)
def test_wrong_usage_is_named(place: Path, options: list[str], complaint: str) -> None:
    result = retgen("tune", place / "jpr.trec", "--qrels", place / "qrels.tsv", *options)
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr


def test_runs_need_names_of_their_own(place: Path, tmp_path: Path) -> None:
    again = tmp_path / "jpr.trec"
    again.write_text((place / "jpr.trec").read_text())
    result = retgen("tune", place / "jpr.trec", again, "--qrels", place / "qrels.tsv")
    assert result.exit_code == 2
    assert "2 runs need 2 different names" in result.stderr


def test_help_teaches() -> None:
    result = retgen("tune", "--help")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    assert "--components bm25,cross_encoder,generator" in shown
    assert "(cross_encoder,generator)" in shown.replace("│ │ ", "")


def test_queries_that_were_not_asked_can_be_left_out(place: Path, given: tuple[Run, Qrels], tmp_path: Path) -> None:
    """Judgements of a whole split, a run of some of its queries: the others count 0, which is said, or are left out."""
    asked = [query_id for query_id in given[0].query_ids if query_id in given[1] and given[0].doc_ids(query_id)][:10]
    write_run(tmp_path / "some.trec", given[0].select(asked))
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"_id": name, "text": "?"}) + "\n" for name in asked))
    for command, more in (("tune", ["-m", "RR@10"]), ("eval", ["-m", "RR@10"])):
        given_files = [command, tmp_path / "some.trec", "--qrels", place / "qrels.tsv", *more, "--json"]
        whole, half = retgen(*given_files), retgen(*given_files, "--queries", tmp_path / "asked.jsonl")
        assert f"judged queries without a hit, which count 0: {len(given[1]) - len(asked)};" in whole.stderr
        assert half.stderr == ""
        assert found(half)["value"] == pytest.approx(found(whole)["value"] * len(given[1]) / len(asked), abs=1e-9)
    (tmp_path / "others.jsonl").write_text('{"_id": "nobody", "text": "?"}\n')
    refused = retgen(*given_files, "--queries", tmp_path / "others.jsonl")
    assert refused.exit_code == 2
    assert "none of these queries is judged" in refused.output
