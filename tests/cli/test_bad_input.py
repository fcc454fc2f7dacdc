"""Bad input at the command line: named with its place; counted and listed where it may be left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retgen import store
from retgen.cli import app
from retgen.recipes.collections import write_questions
from retgen.recipes.measuring import write_outcome
from retgen.recipes.results import Definition, RowResult
from retgen.types import Answer, Query, Run, Triplet

BAD_CORPUS = b"""\
{"_id": "a", "text": "gold was found in 1848"}
{"_id": "b", "text": 7}
{"_id": "a", "text": "again"}
not json
{"_id": "d", "text": "\xe9t\xe9"}
{"_id": "e", "text": "  "}
{"text": "no id"}
[1]
{"_id": "z", "text": "silver is grey"}
"""
# Line → what is said of it.
BAD_LINES = {
    2: "expected a text, got a number",
    3: "the document id 'a' occurs a second time",
    4: "this is not JSON",
    5: "this is not UTF-8 (byte 0xe9)",
    6: "the document has neither text nor title",
    7: "there is no '_id' or 'id'",
    8: "expected an object, got a list",
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def objects(result: Result) -> list[dict[str, Any]]:
    """Standard output, every line of which must be one JSON object."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def failure(status: int, said: str, *arguments: str | Path) -> str:
    """The command ends with this status, says this on standard error, and nothing on standard output."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(BAD_CORPUS)
    return path


@pytest.fixture
def index(corpus: Path, tmp_path: Path) -> Path:
    assert run("index", corpus, "--out", tmp_path / "index", "--skip-bad").exit_code == 0
    return tmp_path / "index"


class TestSkipBad:
    def test_every_bad_document_is_counted_and_listed_with_its_line(self, corpus: Path, tmp_path: Path) -> None:
        failure(1, "corpus.jsonl:2 [text]", "index", corpus, "--out", tmp_path / "i")
        result = run("index", corpus, "--out", tmp_path / "i", "--skip-bad", "--json")
        (made,) = objects(result)
        assert (made["documents"], made["skipped"]) == (2, len(BAD_LINES))
        head, *listed = result.stderr.splitlines()
        assert head == f"{len(BAD_LINES)} bad records left out:"
        assert len(listed) == len(BAD_LINES)
        for line, (number, said) in zip(listed, BAD_LINES.items(), strict=True):
            assert f"corpus.jsonl:{number}" in line
            assert said in line

    def test_a_long_list_ends_with_how_many_more(self, tmp_path: Path) -> None:
        (tmp_path / "many.jsonl").write_text('{"_id": "a", "text": "x"}\n' + "bad\n" * 25)
        result = run("index", tmp_path / "many.jsonl", "--out", tmp_path / "i", "--skip-bad", "--json")
        assert objects(result)[0]["skipped"] == 25
        assert result.stderr.startswith("25 bad records left out:")
        assert result.stderr.rstrip().endswith("and 5 more")

    def test_where_nothing_is_left_it_is_said_why(self, tmp_path: Path) -> None:
        (tmp_path / "all.jsonl").write_text("{bad\n" * 3)
        said = failure(
            1, "there are no documents", "index", tmp_path / "all.jsonl", "--out", tmp_path / "i", "--skip-bad"
        )
        assert "3 bad records left out:" in said
        assert not (tmp_path / "i").exists()
        said = failure(
            1,
            "no documents to ask about",
            "pseudo-queries",
            tmp_path / "all.jsonl",
            "--out",
            tmp_path / "q",
            "--skip-bad",
        )
        assert "3 bad records left out:" in said

    def test_queries(self, index: Path, tmp_path: Path) -> None:
        queries = tmp_path / "queries.jsonl"
        rows = [
            '{"_id": "1", "text": "gold"}',
            '{"_id": "1", "text": "x"}',
            '{"_id": "3"}',
            '{"_id": "4", "text": "?!"}',
        ]
        queries.write_text("\n".join(rows) + "\n")
        failure(1, "queries.jsonl:2", "search", index, "--queries", queries)
        result = run("search", index, "--queries", queries, "--skip-bad", "--out", tmp_path / "run.trec")
        assert result.exit_code == 0
        assert "2 bad records left out:" in result.stderr
        assert "queries.jsonl:3 [text]" in result.stderr
        assert "2 queries, up to 100 documents each" in result.stderr
        queries.write_text(rows[2] + "\n")
        said = failure(1, "there are no queries", "search", index, "--queries", queries, "--skip-bad")
        assert "1 bad record left out:" in said

    def test_what_is_scored(self, tmp_path: Path) -> None:
        trec, qrels, gold = tmp_path / "run", tmp_path / "qrels", tmp_path / "gold.jsonl"
        trec.write_text("q Q0 d 1 2.0 tag\nq Q0 d 2 1.0 tag\n")
        qrels.write_text("q 0 d 1\nq 0 e much\n")
        gold.write_text('{"id": "q", "question": "who?", "answers": ["x"], "positives": ["d"]}\n{"id": "r"}\n')
        failure(1, "qrels:2 [grade]", "eval", trec, "--qrels", qrels)
        for judged in (("--qrels", qrels), ("--gold", gold)):
            result = run("eval", trec, *judged, "-m", "R@1", "--skip-bad", "--json")
            assert objects(result) == [{"measure": "R@1", "value": 1.0, "queries": 1}]
            assert "2 bad records left out:" in result.stderr
            assert "run:2 [document]" in result.stderr
        (tmp_path / "answers.json").write_text('{"q": "x"}')
        result = run("eval", "--answers", tmp_path / "answers.json", "--gold", gold, "-m", "EM", "--skip-bad", "--json")
        assert objects(result) == [{"measure": "EM", "value": 1.0, "queries": 1}]
        assert "1 bad record left out:" in result.stderr


LATIN = "déjà vu".encode("latin-1")


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        (b'{"_id": "a", "text": "x"}\n{"_id": "b", "text": "' + LATIN + b'"}\n', ["index", "FILE", "--out", "NEW"]),
        (b"a\tx\nb\t" + LATIN + b"\n", ["search", "INDEX", "--queries", "FILE"]),
        (b"q 0 d 1\nq 0 " + LATIN[:4] + b" 1\n", ["eval", "RUN", "--qrels", "FILE"]),
        (b"q Q0 d 1 1.0 t\nq Q0 " + LATIN[:4] + b" 2 0.5 t\n", ["eval", "FILE", "--qrels", "QRELS"]),
    ],
)
def test_a_line_that_is_not_utf8(content: bytes, arguments: list[str], index: Path, tmp_path: Path) -> None:
    (tmp_path / "file.tsv" if b"\tx" in content else tmp_path / "file").write_bytes(content)
    file = next(path for path in tmp_path.iterdir() if path.stem == "file")
    (tmp_path / "qrels").write_text("q 0 d 1\n")
    (tmp_path / "run").write_text("q Q0 d 1 1.0 t\n")
    places = {
        "FILE": file,
        "INDEX": index,
        "NEW": tmp_path / "new",
        "RUN": tmp_path / "run",
        "QRELS": tmp_path / "qrels",
    }
    said = failure(1, "not UTF-8", *[places.get(argument, argument) for argument in arguments])
    assert f"{file}:2" in said
    assert not (tmp_path / "new").exists()


def test_answers_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "answers").write_bytes(b'{"a": "' + LATIN + b'"}')
    (tmp_path / "gold.jsonl").write_text('{"id": "a", "question": "who?", "answers": ["x"]}\n')
    failure(1, "cannot be read", "eval", "--answers", tmp_path / "answers", "--gold", tmp_path / "gold.jsonl")


def test_empty_files(index: Path, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.write_text("")
    (tmp_path / "run").write_text("q Q0 d 1 1.0 t\n")
    (tmp_path / "qrels").write_text("q 0 d 1\n")
    failure(1, str(empty), "search", index, "--queries", empty)
    failure(2, "no queries to average over", "eval", tmp_path / "run", "--qrels", empty)
    failure(1, str(empty), "eval", tmp_path / "run", "--gold", empty)
    failure(1, str(empty), "pseudo-queries", empty, "--out", tmp_path / "q.jsonl")
    assert not (tmp_path / "q.jsonl").exists()
    # A run without any line found nothing: that is a result, and said.
    result = run("eval", empty, "--qrels", tmp_path / "qrels", "-m", "R@1")
    assert result.stdout.split() == ["R@1", "0.0000", "(1", "query)"]
    assert "judged queries without a hit, which count 0: 1" in result.stderr


def test_more_asked_for_than_there_is(index: Path) -> None:
    hits = objects(run("search", index, "gold silver", "-k", "100", "--json"))
    assert [hit["rank"] for hit in hits] == [1, 2]
    (answer,) = objects(run("ask", index, "When was gold found?", "-k", "100", "--json"))
    assert answer["answer"] == "1848"


def test_a_filter_that_nothing_passes(index: Path) -> None:
    assert objects(run("search", index, "gold", "--filter", "no-such-key=1", "--json")) == []
    (answer,) = objects(run("ask", index, "When was gold found?", "--filter", "no-such-key=1", "--json"))
    assert (answer["answer"], answer["passages"]) == ("", [])


def test_every_truncated_file_of_an_index_is_named(index: Path, tmp_path: Path) -> None:
    names = [path.relative_to(index) for path in sorted(index.rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(names) > 5
    for name in names:
        torn = tmp_path / "torn"
        shutil.rmtree(torn, ignore_errors=True)
        shutil.copytree(index, torn)
        (torn / name).write_bytes((index / name).read_bytes()[:-1])
        # A manifest without its last byte is still the whole of its JSON: cut it in its middle.
        if name.name == store.MANIFEST:
            (torn / name).write_bytes((index / name).read_bytes()[:40])
        failure(1, name.name, "search", torn, "gold")
        failure(1, name.name, "verify", torn)


def test_what_is_no_folder_of_retgen(corpus: Path, tmp_path: Path) -> None:
    for command in (["verify"], ["search", "gold"], ["ask", "gold?"]):
        name, *rest = command
        failure(1, "no such folder", name, tmp_path / "nowhere", *rest)
        failure(1, "this is a file", name, corpus, *rest)
        failure(1, "did not make it", name, tmp_path, *rest)
    failure(1, "a file stands", "index", corpus, "--out", corpus, "--skip-bad")
    assert corpus.read_bytes() == BAD_CORPUS


class TestCurves:
    def histories(self, out: Path) -> None:
        for seed in (0, 1):
            stage = out / "stages" / f"base-seed{seed}-0a1b{seed:08}"
            stage.mkdir(parents=True)
            rows = [
                {"step": step, "eval_MRR@10": 0.1 * step, "eval_EM": 0.2, "stage": 1} for step in (1, 2)[: 2 - seed]
            ]
            (stage / "history.json").write_text(json.dumps(rows))
            self.result(out, seed, f"0a1b{seed:08}")

    def result(self, out: Path, seed: int, key: str) -> None:
        """The row of the present settings, as a run writes it."""
        stages = {"base": {"key": f"{key}{'f' * 52}"}}
        row = RowResult("toy", "unigen-base", "UniGen", seed, "local", "row key", {}, 0, stages, [])
        (out / "results").mkdir(exist_ok=True)
        (out / "results" / row.file_name).write_text(row.to_json())
        table = Definition("toy", "", "local", None, (), {}, (), "")
        (out / "results" / "_table.json").write_text(table.to_json())

    def test_json_has_every_point(self, tmp_path: Path) -> None:
        self.histories(tmp_path)
        (said,) = objects(run("curves", tmp_path, "--out", tmp_path / "c.svg", "--json"))
        assert said["MRR@10"] == [{"step": 1, "values": [0.1, 0.1]}, {"step": 2, "values": [0.2, None]}]
        assert (tmp_path / "c.svg").read_text().startswith("<?xml")
        (both,) = objects(run("curves", tmp_path, tmp_path, "--out", tmp_path / "two.svg", "--json"))
        assert both[str(tmp_path)]["MRR@10"] == said["MRR@10"]

    def test_folders_of_older_settings_are_not_averaged(self, tmp_path: Path) -> None:
        self.histories(tmp_path)
        for seed in (1, 7):
            older = tmp_path / "stages" / f"base-seed{seed}-deadbeef0000"
            older.mkdir()
            (older / "history.json").write_text('[{"step": 1, "eval_MRR@10": 0.9, "eval_EM": 0.9, "stage": 1}]')
        (said,) = objects(run("curves", tmp_path, "--out", tmp_path / "c.svg", "--json"))
        assert said["MRR@10"] == [{"step": 1, "values": [0.1, 0.1]}, {"step": 2, "values": [0.2, None]}]
        # Once the run was done again with those settings, they are the present ones.
        self.result(tmp_path, 1, "deadbeef0000")
        (tmp_path / "results" / "unigen-base-seed0.json").unlink()
        (said,) = objects(run("curves", tmp_path, "--out", tmp_path / "c.svg", "--json"))
        assert said["MRR@10"] == [{"step": 1, "values": [0.9]}]

    def test_rounds_are_drawn_from_what_each_kept(self, tmp_path: Path) -> None:
        stages = {
            name: tmp_path / "stages" / f"{name}-{letter * 12}" for name, letter in (("data", "a"), ("iter", "b"))
        }
        (stages["data"] / "corpus").mkdir(parents=True)
        asked = [Triplet(Query(name, "who?"), ("Ada",), (f"d-{name}",)) for name in ("p", "q")]
        write_questions(stages["data"], "test", asked)
        stages["iter"].mkdir()
        for number, found in enumerate([["x", "d-p"], ["d-p"], ["d-p"]]):
            ranked = Run(["p", "q"], [found, ["d-q"]], [[-float(place) for place in range(len(found))], [0.0]])
            answers = [Answer("p", "Ada" if number == 2 else "Bob"), Answer("q", "ada")]
            write_outcome(stages["iter"], ranked, answers, 1.0, f"round{number}")
        keys = {name: {"key": stages[name].name.rsplit("-", 1)[1] * 5} for name in stages}
        row = RowResult("toy", "unigen-iter", "UniGen-Iter", None, "local", "row key", {}, 0, keys, [])
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / row.file_name).write_text(row.to_json())
        (tmp_path / "results" / "_table.json").write_text(
            Definition("toy", "", "local", None, (), {}, (), "").to_json()
        )
        arguments = ["curves", "--iterations", tmp_path, "--stage", "iter", "--out", tmp_path / "r.svg"]
        (said,) = objects(run(*arguments, "--json"))
        assert said["MRR@10"] == [
            {"round": 0, "values": [0.75]},
            {"round": 1, "values": [1.0]},
            {"round": 2, "values": [1.0]},
        ]
        assert [point["values"] for point in said["EM"]] == [[0.5], [0.5], [1.0]]
        assert (tmp_path / "r.svg").read_text().startswith("<?xml")
        failure(2, "no finished stage of rounds 'iterations'", "curves", "--iterations", tmp_path, "--out", "r.svg")

    def test_what_cannot_be_drawn(self, tmp_path: Path) -> None:
        failure(2, "no such recipe", "curves", tmp_path / "nowhere", "--out", tmp_path / "c.png")
        self.histories(tmp_path)
        failure(2, "bear their own names", "curves", tmp_path, tmp_path, "--title", "x", "--out", tmp_path / "c.png")
        failure(2, "unknown stage 'bass'", "curves", "almanac", "--stage", "bass", "--out", tmp_path / "c.png")
        failure(2, ".gif", "curves", tmp_path, "--out", tmp_path / "c.gif")
        for history in tmp_path.glob("stages/*/history.json"):
            history.write_text("[]")
        failure(2, "measured no dev questions", "curves", tmp_path, "--out", tmp_path / "c.png")
