"""`retgen search` and `retgen ask` with a trained model: strategies, rules, filters, and what is certified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.formats import read_run
from retgen.generative.unigen import UniGenSettings
from retgen.index import Index
from retgen.types import Document
from tests.train.toy import DOCUMENTS, toy_system

KINDS = {"oxygen": "matter", "iron": "matter", "gold": "matter", "nile": "place", "everest": "place", "paris": "place"}
ASKED = "Which land has the Nile?"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose documents have kinds, and an untrained model that reads contexts."""
    place = tmp_path_factory.mktemp("docid-search")
    documents = [
        Document(document.id, document.text, document.title, {"kind": KINDS.get(document.id, "other")})
        for document in DOCUMENTS
    ]
    index = Index.build(documents, place / "index")
    settings = UniGenSettings(max_input_tokens=96, num_beams=3, context="offline:bm25-context", max_answer_tokens=4)
    toy_system(settings=settings, fingerprint=index.fingerprint).save(place / "model")
    return place


def searched(home: Path, *arguments: str) -> list[dict[str, Any]]:
    place, model = home / "index", home / "model"
    return objects(run("search", place, ASKED, "--with", "unigen", "--model", model, "--json", *arguments))


def test_exact_finds_what_beams_for_all_find_and_says_so(home: Path) -> None:
    everything = searched(home, "-k", "8")
    exact = searched(home, "-k", "3", "--strategy", "exact", "--max-expansions", "5000")
    assert [hit["doc_id"] for hit in exact] == [hit["doc_id"] for hit in everything[:3]]
    assert [hit["score"] for hit in exact] == pytest.approx([hit["score"] for hit in everything[:3]], abs=1e-4)
    assert all("certificate" not in hit for hit in everything)
    for hit in exact:
        told = hit["certificate"]
        assert (told["certified"], told["status"]) == (True, "certified")
        assert 1 <= told["expanded"] <= 5000
        assert told["gap"] == pytest.approx(everything[2]["score"] - everything[3]["score"], abs=1e-3) or (
            told["gap"] < everything[2]["score"] - everything[3]["score"]  # what was not read counts by its bound
        )
    (whole,) = {json.dumps(hit["certificate"]["gap"]) for hit in searched(home, "-k", "8", "--strategy", "exact")}
    assert whole == "null"  # nothing is left out


def test_a_budget_that_ends_is_told(home: Path) -> None:
    short = searched(home, "-k", "2", "--strategy", "exact", "--max-expansions", "1")
    assert {(hit["certificate"]["status"], hit["certificate"]["expanded"]) for hit in short} == {("budget", 1)}
    shown = run(
        *("search", home / "index", ASKED, "--with", "unigen", "--model", home / "model"),
        *("--strategy", "exact", "--max-expansions", "1", "-k", "2"),
    )
    assert shown.exit_code == 0
    assert "Not certified" in shown.stdout
    assert "--max-expansions" in shown.stdout


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", ["model", "trie"])
def test_a_filter_leaves_what_it_keeps(home: Path, rule: str, strategy: str) -> None:
    found = searched(home, "--strategy", strategy, "--rule", rule, "--filter", "kind=place")
    assert sorted(hit["doc_id"] for hit in found) == ["everest", "nile", "paris"]
    assert all(hit["metadata"] == {"kind": "place"} for hit in found)
    assert searched(home, "--strategy", strategy, "--filter", "kind=nothing") == []


def test_a_run_of_an_exact_search_keeps_its_certificate(home: Path, tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text(f"a\t{ASKED}\nb\tWho found oxygen?\n")
    made = run(
        *("search", home / "index", "--queries", tmp_path / "q.tsv", "--with", "unigen", "--model", home / "model"),
        *("--strategy", "exact", "--out", tmp_path / "run.trec", "-k", "4"),
    )
    assert made.exit_code == 0, made.output
    assert made.stdout == ""
    read = read_run(tmp_path / "run.trec")
    assert {"certified", "tied", "expanded", "gap"} <= set(read.component_names)


def test_asking_by_an_exact_search(home: Path) -> None:
    arguments = ["ask", home / "index", ASKED, "--model", home / "model", "--strategy", "exact", "-k", "2"]
    (answer,) = objects(run(*arguments, "--json"))
    assert answer["certificate"]["status"] == "certified"
    shown = run(*arguments)
    assert "Certified: no document left out is likelier" in shown.stdout
    (plain,) = objects(run("ask", home / "index", ASKED, "--model", home / "model", "--json"))
    assert "certificate" not in plain


@pytest.mark.parametrize("rounds", ["0", "1"])
def test_what_a_filter_leaves_out_is_neither_found_nor_quoted(home: Path, rounds: str) -> None:
    arguments = ["ask", home / "index", ASKED, "--model", home / "model", "--rounds", rounds, "--json"]
    (whole,) = objects(run(*arguments))
    assert "Egypt" in whole["context"]
    (kept,) = objects(run(*arguments, "--filter", "kind=matter"))
    assert "Egypt" not in kept["context"]
    assert {passage["doc_id"] for passage in kept["passages"]} <= {"oxygen", "iron", "gold"}
    assert all(set(each["doc_ids"]) <= {"oxygen", "iron", "gold"} for each in kept["rounds"])


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        ("one of beam, lookahead, exact", ["search", "INDEX", "q", *"--with unigen --model M --strategy A*".split()]),
        ("choose one of model, trie", ["ask", "INDEX", "q", *"--model M --rule sum".split()]),
        ("only an exact search has a budget", ["ask", "INDEX", "q", *"--model M --max-expansions 9".split()]),
        ("only an exact search", ["search", "INDEX", "q", *"--with unigen --model M --max-expansions 9".split()]),
        ("there is none", ["search", "INDEX", "q", "--strategy", "exact"]),
        ("there is none", ["ask", "INDEX", "q", "--rule", "trie"]),
        ("there is none", ["ask", "INDEX", "q", "--max-expansions", "9"]),
        ("--max-expansions", ["ask", "INDEX", "q", *"--model M --strategy exact --max-expansions 0".split()]),
        ("key=value", ["ask", "INDEX", "q", *"--model M --filter kind".split()]),
        ("no explanation", ["search", "INDEX", "q", *"--with unigen --model M --explain".split()]),
    ],
)  # fmt: skip
def test_wrong_usage(said: str, arguments: list[str], home: Path) -> None:
    places = {"INDEX": str(home / "index"), "M": str(home / "model")}
    result = run(*[places.get(argument, argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert said in result.stderr.lower()
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["search", "ask"])
def test_help_teaches_the_search(command: str) -> None:
    shown = " ".join(run(command, "--help").stdout.split())
    for option in ("--strategy", "--rule", "--max-expansions"):
        assert option in shown
    assert "--strategy exact" in shown.split("Example", 1)[1]
