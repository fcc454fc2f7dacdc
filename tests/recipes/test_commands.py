"""`retgen run` and `retgen report`: the table on standard output, everything else on standard error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from retgen.cli import app
from retgen.cli.recipe_progress import duration, recipe_progress
from retgen.recipes import Event
from tests.recipes.conftest import Folder


def _retgen(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _run(toy: Folder, *options: str) -> Result:
    return _retgen("run", toy.recipe, "--data", toy.data, "--out", toy.out, *options)


class TestRun:
    def test_the_table_is_all_of_standard_output(self, toy: Folder) -> None:
        done = _run(toy, "--seeds", "2")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("**Five documents; scale local; 6 questions; mean ± std over seeds 0, 1**")
        assert "printed by a stage" not in done.stdout
        assert "BM25 + prior" in done.stdout
        assert "fit (seed 1): done" in done.stderr
        assert _run(toy, "--seeds", "2").stdout == done.stdout

    def test_what_was_done_before_is_said(self, toy: Folder) -> None:
        _run(toy, "--rows", "bm25")
        done = _run(toy, "--rows", "bm25,fit")
        assert "bm25: done before" in done.stderr
        assert "fit (seed 0): started" in done.stderr

    def test_json_is_one_object_per_row(self, toy: Folder) -> None:
        done = _run(toy, "--seed-list", "3,5", "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(row["row"], row["seeds"]) for row in rows] == [("bm25", []), ("fit", [3, 5])]
        assert rows[0]["values"]["R@1"] == pytest.approx(5 / 6)
        assert set(rows[1]["p"]) == {"RR@10", "R@1", "BLEU-1"}

    def test_a_row_by_itself(self, toy: Folder) -> None:
        done = _run(toy, "--rows", "bm25")
        assert "BM25" in done.stdout
        assert "prior" not in done.stdout

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--rows", "bm52"], "Did you mean 'bm25'"),
            (["--seeds", "2", "--seed-list", "0"], "One of the two, not both"),
            (["--seed-list", "a,b"], "whole numbers"),
            (["--scale", "gpu"], "no scale 'gpu'"),
            (["--scale", "big"], "unknown scale 'big'"),
        ],
    )
    def test_wrong_usage_is_exit_status_2(self, toy: Folder, options: list[str], says: str) -> None:
        done = _run(toy, *options)
        assert done.exit_code == 2
        assert says in done.stderr
        assert done.stdout == ""

    def test_an_unknown_recipe(self) -> None:
        done = _retgen("run", "sqaud")
        assert done.exit_code == 2
        assert "unknown recipe 'sqaud'" in done.stderr

    def test_no_data_names_what_it_must_hold(self, toy: Folder) -> None:
        done = _retgen("run", toy.recipe, "--out", toy.out)
        assert done.exit_code == 2
        assert "Made by the tests" in done.stderr

    def test_a_failed_stage_is_exit_status_1(self, toy: Folder) -> None:
        toy.write_data({"documents": {}})
        done = _run(toy)
        assert done.exit_code == 1
        assert "the stage 'corpus' failed: KeyError: 'questions'" in done.stderr
        assert "Run the same command again" in done.stderr

    def test_everything_goes_below_runs_by_default(self, toy: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(toy.place)
        assert _retgen("run", toy.recipe, "--data", toy.data, "--rows", "bm25").exit_code == 0
        assert (toy.place / "runs" / "toy-local" / "results" / "bm25.json").is_file()


class TestReport:
    def test_prints_the_table_of_the_run(self, toy: Folder) -> None:
        ran = _run(toy)
        assert _retgen("report", toy.out).stdout == ran.stdout

    @pytest.mark.parametrize(
        ("options", "begins"),
        [
            (["--format", "latex"], "% needs"),
            (["--format", "csv"], "System,"),
            (["--format", "html"], "<table>"),
            (["--format", "json"], "{"),
        ],
    )
    def test_formats(self, toy: Folder, options: list[str], begins: str) -> None:
        _run(toy)
        assert _retgen("report", toy.out, *options).stdout.startswith(begins)

    def test_a_file_takes_its_suffix_format(self, toy: Folder, tmp_path: Path) -> None:
        _run(toy)
        done = _retgen("report", toy.out, "--out", tmp_path / "table.tex")
        assert done.stdout == ""
        assert (tmp_path / "table.tex").read_text(encoding="utf-8") == _retgen(
            "report", toy.out, "--format", "latex"
        ).stdout

    def test_several_files_take_a_format_each(self, toy: Folder, tmp_path: Path) -> None:
        _run(toy)
        places = [tmp_path / f"table.{suffix}" for suffix in ("md", "tex", "csv", "html")]
        done = _retgen("report", toy.out, *[part for place in places for part in ("--out", place)])
        assert done.exit_code == 0, done.output
        for place, form in zip(places, ("md", "latex", "csv", "html"), strict=True):
            assert place.read_text(encoding="utf-8") == _retgen("report", toy.out, "--format", form).stdout

    def test_json_is_that_of_the_run(self, toy: Folder) -> None:
        ran = _run(toy, "--seeds", "2", "--json")
        assert _retgen("report", toy.out, "--json").stdout == ran.stdout

    def test_differences_follow(self, toy: Folder) -> None:
        _run(toy)
        assert "Differences from BM25" in _retgen("report", toy.out, "--differences").stdout

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (["--format", "docx"], "no table format is called 'docx'"),
            (["--out", "table.docx"], "no table format is called '.docx'"),
            (["--baseline", "bm52"], "Did you mean 'bm25'"),
            (["--json", "--format", "csv"], "prints rows, not a table"),
        ],
    )
    def test_wrong_usage_is_exit_status_2(self, toy: Folder, options: list[str], says: str) -> None:
        _run(toy, "--rows", "bm25")
        done = _retgen("report", toy.out, *options)
        assert done.exit_code == 2
        assert says in done.stderr

    def test_a_folder_without_results(self, tmp_path: Path) -> None:
        done = _retgen("report", tmp_path)
        assert done.exit_code == 2
        assert "holds no results" in done.stderr


class TestProgress:
    def test_a_terminal_shows_every_stage_and_where_it_stands(self) -> None:
        console = Console(force_terminal=True, width=100, record=True, color_system=None)
        with console.capture() as shown, recipe_progress(console) as listen:
            for number in range(20):
                listen(Event("planned", f"stage-{number}"))
            for number in range(12):
                listen(Event("finished", f"stage-{number}", seconds=75))
            listen(Event("started", "stage-12"))
            listen(Event("progress", "stage-12", done=3, total=9, text="epochs"))
            listen(Event("message", "stage-12", text="a word"))
        text = shown.get()
        for part in ("4 more", "1:15 min", "stage-12", "3/9 epochs", "stage-12: a word", "2 more", "waiting"):
            assert part in text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1:01 min"), (3600, "1:00 h")]
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text
