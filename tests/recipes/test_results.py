"""Merged over seeds and folders, a table is what one would compute by hand from its files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from retgen.errors import FormatError, MismatchError, UsageError
from retgen.evaluate import compare, compare_corpus
from retgen.evaluate.bleu import bleu1
from retgen.evaluate.table import Table
from retgen.recipes import Report, load_results, make_report
from tests.recipes.conftest import RECIPE, Folder

NUMBERS: dict[str, Any] = {
    "name": "numbers",
    "description": "Made-up systems",
    "modules": ["tests.recipes.toy_stages"],
    "baseline": "low",
    "stages": {
        "low": {"kind": "toy-numbers", "params": {"mean": 0.2}},
        "same": {"kind": "toy-numbers", "params": {"mean": 0.21}},
        "high": {"kind": "toy-numbers", "params": {"mean": 0.5}},
    },
    "rows": {
        "low": {"needs": ["low"], "label": "Low"},
        "same": {"needs": ["same"], "section": "Ours"},
        "high": {"needs": ["high"], "section": "Ours", "published": {"R@1": 0.4}, "note": "A note", "ranked": False},
        "theirs": {"published": {"R@1": 0.3}},
        "never-run": {"needs": ["high"]},
    },
    "columns": ["R@1", "EM"],
    "published_source": "Nobody, 2020",
    "notes": ["Of no use."],
}


@pytest.fixture
def numbers(toy: Folder) -> Folder:
    toy.write({}, base=NUMBERS)
    return toy


def _run(folder: Folder, *seeds: int, **options: Any) -> Report:
    options = {"rows": ["low", "same", "high"], "data": None, **options}
    return make_report(folder.run(seeds=list(seeds), **options))


def _read(folder: Folder, row: str, *seeds: int) -> list[dict[str, Any]]:
    return [json.loads((folder.out / "results" / f"{row}-seed{seed}.json").read_text()) for seed in seeds]


class TestOverSeeds:
    def test_mean_and_deviation_equal_hand_computation(self, numbers: Folder) -> None:
        report = _run(numbers, 0, 1, 2)
        for row in ("low", "same", "high"):
            by_hand = [content["values"]["R@1"] for content in _read(numbers, row, 0, 1, 2)]
            assert len(set(by_hand)) == 3
            assert report.rows[row].values["R@1"] == pytest.approx(fmean(by_hand))
            assert report.rows[row].std["R@1"] == pytest.approx(stdev(by_hand))
            assert report.rows[row].values["EM"] is None
            assert report.rows[row].seeds == (0, 1, 2)

    def test_tests_are_paired_over_questions_on_the_seeds_mean(self, numbers: Folder) -> None:
        results = numbers.run(seeds=[0, 1, 2], rows=["low", "same", "high"], data=None)
        report = make_report(results)
        systems = {row: [one.report.per_question["R@1"] for one in results.of(row)] for row in ("low", "same", "high")}
        assert report.comparisons == {"R@1": compare(systems, "low")}
        lines = {line.name: line for line in report.table.lines if hasattr(line, "marks")}
        assert lines["high"].marks["R@1"] == "†"
        assert "R@1" not in lines["same"].marks
        assert report.comparisons["R@1"]["same"].p_adjusted > 0.05

    def test_another_baseline(self, numbers: Folder) -> None:
        _run(numbers, 0, 1)
        report = make_report(load_results(numbers.out), baseline="high")
        assert set(report.against.values()) == {"high"}
        lines = {line.name: line for line in report.table.lines if hasattr(line, "marks")}
        assert lines["Low"].marks["R@1"] == "‡"
        with pytest.raises(UsageError, match=r"unknown row 'hihg'\. Did you mean 'high'"):
            make_report(load_results(numbers.out), baseline="hihg")

    def test_one_seed_has_no_deviation(self, numbers: Folder) -> None:
        report = _run(numbers, 4)
        assert report.rows["high"].std == {}
        assert "seed 4" in report.table.caption

    def test_a_row_that_lacks_seeds_says_so(self, numbers: Folder) -> None:
        _run(numbers, 0, 1, 2)
        (numbers.out / "results" / "high-seed1.json").unlink()
        text = make_report(load_results(numbers.out)).render("md")
        assert "high (2 of 3 seeds)" in text
        assert "| Low  " in text

    def test_intervals_are_around_the_seeds_mean(self, numbers: Folder) -> None:
        report = _run(numbers, 0, 1)
        for row in report.rows.values():
            interval = row.intervals["R@1"]
            assert interval.estimate == pytest.approx(row.values["R@1"])
            assert interval.low < interval.estimate < interval.high


class TestCorpusLevel:
    def test_bleu_is_tested_by_swapping_statistics(self, toy: Folder) -> None:
        results = toy.run(seeds=[0, 1])
        report = make_report(results)
        statistics = {row: [one.report.statistics["BLEU-1"] for one in results.of(row)] for row in ("bm25", "fit")}
        # BM25 does not depend on the seed: its one run meets both.
        statistics["bm25"] *= 2
        assert report.comparisons["BLEU-1"] == compare_corpus(statistics, "bm25", bleu1)
        assert report.rows["fit"].intervals["BLEU-1"].estimate == pytest.approx(report.rows["fit"].values["BLEU-1"])

    def test_a_row_without_seeds_has_no_deviation_and_lacks_none(self, toy: Folder) -> None:
        report = make_report(toy.run(seeds=[0, 1]))
        assert report.rows["bm25"].seeds == ()
        assert report.rows["bm25"].std == {}
        assert "| BM25  " in report.render("md")


class TestMerging:
    def test_seeds_run_apart_give_the_table_of_seeds_run_together(
        self, toy: Folder, another: Callable[[str], Folder]
    ) -> None:
        first, second = another("first"), another("second")
        toy.run(seeds=[0, 1, 2])
        first.run(seeds=[0])
        second.run(seeds=[1, 2])
        for folder in (toy, first, second):
            # Times differ; everything else must not.
            for path in (folder.out / "results").glob("*.json"):
                content = json.loads(path.read_text())
                if path.name != "_table.json" and "train s" in content["values"]:
                    content["values"]["train s"] = 1.0
                    path.write_text(json.dumps(content))
        merged = make_report(load_results(second.out, first.out))
        assert merged.render("json") == make_report(load_results(toy.out)).render("json")

    def test_the_results_folder_itself_will_do(self, numbers: Folder, tmp_path: Path) -> None:
        report = _run(numbers, 0, 1)
        shutil.copytree(numbers.out / "results", tmp_path / "docs")
        assert make_report(load_results(tmp_path / "docs")).render("json") == report.render("json")

    def test_without_values_per_question_the_means_stay(self, numbers: Folder) -> None:
        before = _run(numbers, 0, 1)
        shutil.rmtree(numbers.out / "results" / "per-question")
        after = make_report(load_results(numbers.out))
        assert after.comparisons == {}
        assert {name: row.values for name, row in after.rows.items()} == {
            name: row.values for name, row in before.rows.items()
        }

    def test_results_made_with_other_settings_do_not_mix(self, toy: Folder, another: Callable[[str], Folder]) -> None:
        other = another("other")
        other.write({"stages": {"bm25": {"params": {"k1": 2.0}}}})
        toy.run(seeds=[0])
        other.run(seeds=[1])
        with pytest.raises(MismatchError, match="made with other settings"):
            load_results(toy.out, other.out)

    def test_one_seed_with_two_values_is_refused(self, numbers: Folder, tmp_path: Path) -> None:
        _run(numbers, 0)
        shutil.copytree(numbers.out / "results", tmp_path / "copy")
        assert len(load_results(numbers.out, tmp_path / "copy").rows) == 3
        path = tmp_path / "copy" / "high-seed0.json"
        content = json.loads(path.read_text())
        content["values"]["R@1"] += 0.01
        path.write_text(json.dumps(content))
        with pytest.raises(MismatchError, match=r"high-seed0\.json has other values"):
            load_results(numbers.out, tmp_path / "copy")

    @pytest.mark.parametrize(("key", "value"), [("name", "another"), ("scale", "full")])
    def test_recipes_and_scales_do_not_mix(self, numbers: Folder, tmp_path: Path, key: str, value: str) -> None:
        _run(numbers, 0)
        shutil.copytree(numbers.out / "results", tmp_path / "copy")
        path = tmp_path / "copy" / "_table.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
        with pytest.raises(MismatchError, match=value):
            load_results(numbers.out, tmp_path / "copy")

    def test_rows_on_other_questions_are_not_compared(self, numbers: Folder) -> None:
        numbers.write({"stages": {"high": {"params": {"questions": 19}}}}, base=NUMBERS)
        with pytest.raises(MismatchError, match=r"'high' and 'low' were scored on different questions \(19 and 20\)"):
            _run(numbers, 0)


class TestFiles:
    def test_results_of_earlier_settings_are_moved_aside(self, numbers: Folder) -> None:
        _run(numbers, 0, 1)
        numbers.write({"stages": {"high": {"params": {"mean": 0.7}}}}, base=NUMBERS)
        _run(numbers, 0)
        names = sorted(path.name for path in (numbers.out / "results").glob("*.json"))
        assert "high-seed0.json" in names
        assert "high-seed1.json" not in names
        assert len(list((numbers.out / "results" / "earlier").glob("high-seed?-*.json"))) == 2
        assert load_results(numbers.out).seeds == [0, 1]
        assert any("moved aside" in event.text for event in numbers.events)

    def test_no_table_mixes_old_settings_with_new(self, numbers: Folder) -> None:
        _run(numbers, 0)
        numbers.write({"stages": {"same": {"params": {"mean": 0.7}}}}, base=NUMBERS)
        _run(numbers, 0, rows=["low"])
        names = {path.name for path in (numbers.out / "results").glob("*.json")}
        assert names == {"_table.json", "low-seed0.json", "high-seed0.json"}

    def test_a_row_whose_name_begins_like_another_is_left_alone(self, numbers: Folder) -> None:
        rows = {"high-more": {"needs": ["same"]}, "high": {"needs": ["high"]}}
        numbers.write({"rows": rows}, base={**NUMBERS, "rows": {}, "baseline": None})
        _run(numbers, 0, 1, rows=["high-more", "high"])
        _run(numbers, 0, 1, rows=["high-more", "high"])
        assert len(load_results(numbers.out).rows) == 4

    def test_a_file_says_where_its_numbers_come_from(self, numbers: Folder) -> None:
        _run(numbers, 3)
        (content,) = _read(numbers, "high", 3)
        (maker,) = content["made_by"]
        assert maker["command"] == "retgen run toy"
        assert maker["versions"]["retgen"]
        assert maker["machine"]["cores"] >= 1
        assert maker["stages"] == ["high"]
        assert content["seed"] == 3
        assert content["scale"] == "local"
        assert content["questions"] == 20
        assert len(json.dumps(content)) < 4000

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            '{"format": "other", "format_version": 1}',
            '{"format": "retgen-result", "format_version": 9}',
            '{"format": "retgen-result", "format_version": 1, "row": "x"}',
        ],
    )
    def test_what_is_no_result_is_named(self, numbers: Folder, text: str) -> None:
        _run(numbers, 0)
        (numbers.out / "results" / "high-seed7.json").write_text(text)
        with pytest.raises(FormatError, match=r"high-seed7\.json"):
            load_results(numbers.out)

    def test_torn_values_per_question_are_named(self, numbers: Folder) -> None:
        _run(numbers, 0)
        path = numbers.out / "results" / "per-question" / "high-seed0.json.gz"
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(FormatError, match=r"high-seed0\.json"):
            load_results(numbers.out)

    def test_a_folder_without_results(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="holds no results"):
            load_results(tmp_path)


class TestTable:
    def test_the_whole_of_it(self, numbers: Folder) -> None:
        report = _run(numbers, 0, 1)
        values = {row: report.rows[row].values["R@1"] for row in ("low", "same", "high")}
        std = {row: report.rows[row].std["R@1"] for row in ("low", "same", "high")}
        best = max(values["low"], values["same"])

        def cell(row: str, mark: str = "") -> str:
            text = f"{values[row]:.3f}"
            return f"{f'**{text}**' if values[row] == best else text} ± {std[row]:.3f}{mark}"

        cells = [
            [field.strip() for field in line.strip("|").split("|")]
            for line in report.render("md").splitlines()
            if line.startswith("|") and "---" not in line
        ]
        assert cells == [
            ["System", "R@1", "EM"],
            ["Low", cell("low"), "–"],
            ["*Ours*", "", ""],
            ["same", cell("same"), "–"],
            [r"high\*", cell("high", "†"), "–"],
            ["high (published)", "0.400", "–"],
            ["theirs (published)", "0.300", "–"],
        ]
        text = report.render("md")
        for part in (
            "Made-up systems; scale local; 20 questions; mean ± std over seeds 0, 1",
            r"\* A note",
            "Nobody, 2020",
            "Of no use.",
        ):
            assert part in text

    def test_json_reads_back_and_has_the_tests(self, numbers: Folder) -> None:
        report = _run(numbers, 0, 1)
        content = json.loads(report.render("json"))
        assert Table.from_json(report.render("json")).to_markdown() == report.render("md")
        assert set(content["against"].values()) == {"low"}
        assert content["comparisons"]["R@1"]["high"]["p_adjusted"] < 0.05
        assert content["rows"]["high"]["seeds"] == [0, 1]

    @pytest.mark.parametrize("form", ["latex", "csv", "html"])
    def test_other_formats_have_every_row(self, numbers: Folder, form: Any) -> None:
        text = _run(numbers, 0, 1).render(form)
        for name in ("Low", "same", "high", "theirs"):
            assert name in text

    def test_differences_have_intervals_and_corrected_p(self, numbers: Folder) -> None:
        report = _run(numbers, 0, 1)
        table = report.differences()
        rows = {line.name: line.values for line in table.lines if hasattr(line, "values")}
        assert set(rows) == {"same", "high"}
        assert rows["high"]["low"] < rows["high"]["difference"] < rows["high"]["high"]
        expected = report.rows["high"].values["R@1"] - report.rows["low"].values["R@1"]
        assert rows["high"]["difference"] == pytest.approx(expected)
        assert "from Low" in table.caption

    def test_contrasts_say_which_of_two_rows_is_higher_or_that_they_tie(self, numbers: Folder) -> None:
        numbers.write({"contrasts": [["high", "same"], ["same", "low"], ["low", "high"]]}, base=NUMBERS)
        report = _run(numbers, 0, 1)
        table = make_report(load_results(numbers.out)).render_differences("md").partition("Rows against each other")[2]
        lines = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in table.splitlines() if "−" in line}
        assert lines == {"high − same": "high", "same − Low": "tie", "Low − high": "high"}
        found = report.contrasts["R@1"]
        assert found["low", "high"].difference == pytest.approx(-report.comparisons["R@1"]["high"].difference)
        assert all(test.p_adjusted >= test.p_value for test in found.values())
        told = json.loads(report.render("json"))["contrasts"]
        assert [(each["row"], each["other"]) for each in told] == [("high", "same"), ("same", "low"), ("low", "high")]

    def test_contrasts_stand_under_their_headings(self, numbers: Folder) -> None:
        groups = {"First part": [["same", "low"]], "Second part": [["high", "same"]], "Both": [["high", "low"]]}
        numbers.write({"contrasts": {**groups, "Again": [["same", "low"]]}}, base=NUMBERS)
        report = _run(numbers, 0, 1)
        read = make_report(load_results(numbers.out))
        assert read.headings == report.headings
        told = read.render_differences("md").partition("Rows against each other")[2]
        names = [line.split("|")[1].strip() for line in told.splitlines() if "−" in line or "| *" in line]
        assert names == [
            "*First part*", "same − Low", "*Second part*", "high − same", "*Both*", "high − Low", "*Again*",
            "same − Low",
        ]  # fmt: skip
        # Tested once, however often it is shown: three tests are corrected for.
        found = report.contrasts["R@1"]
        assert len(found) == 3
        assert found["same", "low"].difference + found["high", "same"].difference == pytest.approx(
            found["high", "low"].difference
        )
        content = json.loads(read.render("json"))["contrasts"]
        assert [each["heading"] for each in content] == ["First part", "Second part", "Both", "Again"]

    def test_a_table_from_before_there_were_headings_is_read(self, numbers: Folder) -> None:
        numbers.write({"contrasts": [["high", "same"]]}, base=NUMBERS)
        report = _run(numbers, 0)
        path = numbers.out / "results" / "_table.json"
        content = json.loads(path.read_text())
        for older in ([["high", "same"]], None):
            changed = {key: value for key, value in content.items() if key != "contrasts"}
            path.write_text(json.dumps(changed if older is None else {**changed, "contrasts": older}))
            found = make_report(load_results(numbers.out)).contrasts
            assert found == (report.contrasts if older else {})

    @pytest.mark.parametrize("contrasts", [[["high", "smae"]], {"Parts": [["high", "smae"]]}])
    def test_a_contrast_of_a_row_that_is_not_there_is_named(self, numbers: Folder, contrasts: Any) -> None:
        numbers.write({"contrasts": contrasts}, base=NUMBERS)
        with pytest.raises(UsageError, match=r"unknown row 'smae'\. Did you mean 'same'"):
            _run(numbers, 0)

    def test_costs_add_up_over_the_tagged_stages(self, toy: Folder) -> None:
        columns = [
            {"key": "train", "cost": {"of": "wall_seconds", "over": ["train"]}},
            {"key": "all", "cost": {"of": "wall_seconds"}},
            {"key": "memory", "cost": {"of": "peak_memory_bytes", "over": ["toy-evaluate", "bm25"]}},
        ]
        toy.write({"columns": columns})
        bm25, fit = toy.run().rows
        assert bm25.values["train"] is None
        assert fit.values["train"] == fit.stages["fit"]["wall_seconds"]
        total = sum(stage["wall_seconds"] for stage in fit.stages.values())
        assert math.isclose(float(fit.values["all"] or 0), total, abs_tol=0.005)
        peaks = [fit.stages[name]["peak_memory_bytes"] for name in ("bm25", "score-fit")]
        assert fit.values["memory"] == max(peaks)

    def test_two_stages_may_not_report_the_same_value(self, toy: Folder) -> None:
        toy.write({"rows": {"bm25": {"needs": ["score-bm25", "score-fit"]}}})
        with pytest.raises(UsageError, match=r"two of the stages of the row 'bm25' report 'RR@10'"):
            toy.run(rows=["bm25"])

    def test_nothing_run_yet(self, toy: Folder) -> None:
        toy.write({"rows": {"fit": None}, "columns": ["R@1"]})
        toy.write(
            {},
            base={
                **RECIPE,
                "stages": {},
                "rows": {"theirs": {"published": {"R@1": 0.3}}},
                "baseline": None,
                "columns": ["R@1"],
            },
        )
        with pytest.raises(UsageError, match="no results of the recipe 'toy' yet"):
            make_report(toy.run())
