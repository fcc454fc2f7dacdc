"""`retgen pseudo-queries`: a file that training can read, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.formats import read_triplets


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["pseudo-queries", *map(str, arguments)])


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "radium.txt").write_text("Radium was discovered in 1898. Marie Curie isolated the metal in Paris.\n")
    (folder / "noise.txt").write_text("?!\n")
    return folder


def test_questions_answers_and_documents_are_written(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "asked.jsonl"
    result = run(docs, "-n", "2", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    told = json.loads(line)
    triplets = list(read_triplets(out))
    assert told["questions"] == len(triplets) == 2
    assert (told["documents"], told["asked"]) == (2, 1)
    for triplet in triplets:
        assert triplet.doc_ids == ("radium.txt",)
        assert triplet.answers[0] in (docs / "radium.txt").read_text()


def test_an_index_of_the_folder_gives_the_same_file(docs: Path, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["index", str(docs), "--out", str(tmp_path / "index")]).exit_code == 0
    assert run(docs, "--out", tmp_path / "a.jsonl", "--seed", "3").exit_code == 0
    shown = run(tmp_path / "index", "--out", tmp_path / "b.jsonl", "--seed", "3")
    assert "questions about 1 of 2 documents" in shown.stdout
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("status", "said", "arguments"),
    [
        (1, "no model", ["DOCS", "--generator", "NOWHERE"]),
        (1, "no such file", ["NOWHERE"]),
        (2, "-n", ["DOCS", "-n", "0"]),
    ],
)
def test_what_cannot_be_asked(status: int, said: str, arguments: list[str], docs: Path, tmp_path: Path) -> None:
    places = {"DOCS": str(docs), "NOWHERE": str(tmp_path / "nowhere")}
    result = run(*[places.get(argument, argument) for argument in arguments], "--out", tmp_path / "out.jsonl")
    assert result.exit_code == status
    assert said in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out.jsonl").exists()


def test_a_bad_file_is_left_out_when_asked(docs: Path, tmp_path: Path) -> None:
    (docs / "empty.txt").write_text("")
    assert run(docs, "--out", tmp_path / "out.jsonl").exit_code == 1
    assert not (tmp_path / "out.jsonl").exists()
    result = run(docs, "--out", tmp_path / "out.jsonl", "--skip-bad")
    assert result.exit_code == 0
    assert "empty.txt" in result.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny, with random weights: a query generator and a cross-encoder."""
    from tests.models.generators import seq2seq
    from tests.train.toy_pairs import saved_toy

    home = tmp_path_factory.mktemp("models")
    model, tokenizer = seq2seq("t5")
    model.save_pretrained(home / "generator")
    tokenizer.save_pretrained(home / "generator")
    saved_toy(home / "cross-encoder")
    return home


def test_a_generators_questions_filtered_and_counted_by_an_index(docs: Path, models: Path, tmp_path: Path) -> None:
    sampled = ("--generator", models / "generator", "-n", "3", "--device", "cpu")
    result = run(docs, *sampled, "--out", tmp_path / "all.jsonl", "--json")
    assert result.exit_code == 0, result.output
    whole = json.loads(result.stdout)
    kept = run(
        docs, *sampled, "--cross-encoder", models / "cross-encoder", "--keep", "1", "--out", tmp_path / "kept.jsonl",
        "--json",
    )  # fmt: skip
    assert kept.exit_code == 0, kept.output
    told = json.loads(kept.stdout)
    assert told["questions"] == told["asked"] == whole["asked"]
    assert told["dropped"] == whole["questions"] - told["questions"]
    everything = {triplet.query.text for triplet in read_triplets(tmp_path / "all.jsonl")}
    assert {triplet.query.text for triplet in read_triplets(tmp_path / "kept.jsonl")} <= everything
    index = CliRunner().invoke(
        app,
        [
            "index",
            str(docs),
            "--out",
            str(tmp_path / "index"),
            "--pseudo-queries",
            str(tmp_path / "all.jsonl"),
            "--json",
        ],
    )
    assert index.exit_code == 0, index.output
    assert json.loads(index.stdout)["retrievers"] == ["bm25", "doct5query"]
    asked = ["search", str(tmp_path / "index"), "Paris", "--with", "doct5query", "--explain", "--json"]
    found = CliRunner().invoke(app, asked)
    assert json.loads(found.stdout.splitlines()[0])["doc_id"] == "radium.txt"


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("--cross-encoder", ["--generator", "MODEL", "--keep", "2"]),
        ("--cross-encoder", ["--generator", "MODEL", "--cross-encoder", "MODEL"]),
        ("--keep", ["--keep", "2"]),
    ],
)
def test_a_filter_needs_both_halves_and_a_generator(
    said: str, arguments: list[str], docs: Path, tmp_path: Path
) -> None:
    result = run(docs, *arguments, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 2
    assert said in result.stderr


def test_interrupted_it_goes_on_with_the_same_command(
    docs: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retgen.models.query_generator import QueryGenerator

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    command = (docs, "--generator", models / "generator", "-n", "2", "--device", "cpu", "--out", tmp_path / "out.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(QueryGenerator, "sample", interrupted)
        stopped = run(*command)
    assert stopped.exit_code == 130
    assert "run the same command again" in stopped.stderr
    assert not (tmp_path / "out.jsonl").exists()
    other = run(*command, "--seed", "4")
    assert other.exit_code == 1
    assert "--no-resume" in other.stderr
    assert run(*command).exit_code == 0
    assert list(read_triplets(tmp_path / "out.jsonl"))
