"""The runner makes just what is needed, once, and goes on after any interruption."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retgen.errors import ArtefactError, MissingExtraError, UsageError
from retgen.recipes import StageError, load_recipe, run_recipe
from retgen.store import MANIFEST, create
from tests.recipes import toy_stages
from tests.recipes.conftest import COLLECTION, RECIPE, Folder

ROOT = Path(__file__).resolve().parents[2]


BARE: dict[str, Any] = {**RECIPE, "stages": {}, "rows": {}, "columns": ["ok"], "data": None, "baseline": None}


def _write_trouble(
    toy: Folder, what: str, *, isolated: bool = False, base: dict[str, Any] = BARE, optional: bool = False
) -> None:
    stage = {"kind": "toy-trouble", "params": {"what": what}, "isolated": isolated}
    toy.write(
        {"stages": {"trouble": stage}, "rows": {"trouble": {"needs": ["trouble"], "optional": optional}}}, base=base
    )


class TestWhatRuns:
    def test_stages_run_once_in_order_and_seeds_share_what_they_can(self, toy: Folder) -> None:
        results = toy.run(seeds=[0, 1])
        assert toy.stages("started") == [
            "corpus", "bm25", "score-bm25", "fit/0", "score-fit/0", "fit/1", "score-fit/1"
        ]  # fmt: skip
        assert toy.stages("planned") == toy.stages("started")
        assert {(row.row, row.seed) for row in results.rows} == {("bm25", None), ("fit", 0), ("fit", 1)}

    def test_only_what_the_rows_need(self, toy: Folder) -> None:
        toy.run(rows=["bm25"])
        assert toy.stages("started") == ["corpus", "bm25", "score-bm25"]

    def test_finished_stages_are_skipped_and_results_stay(self, toy: Folder) -> None:
        toy.run()
        before = {path.name: path.read_bytes() for path in (toy.out / "results").glob("*.json")}
        toy.run()
        assert toy.stages("started") == []
        assert set(toy.stages("skipped")) == {"corpus", "bm25", "score-bm25", "fit/0", "score-fit/0"}
        assert {path.name: path.read_bytes() for path in (toy.out / "results").glob("*.json")} == before

    def test_values_are_those_of_the_computation(self, toy: Folder) -> None:
        (row,) = toy.run(rows=["bm25"]).rows
        # Every question but the last, whose "relevant" document is wrong on purpose, finds its document first.
        assert row.values["R@1"] == pytest.approx(5 / 6)
        assert row.report.per_question["R@1"] == {**dict.fromkeys(["q1", "q2", "q3", "q4", "q5"], 1.0), "q6": 0.0}
        assert row.questions == 6

    def test_scratch_is_gone_when_all_is_done(self, toy: Folder) -> None:
        toy.run()
        assert not (toy.out / "scratch").exists()


class TestKeys:
    def test_a_changed_argument_runs_its_stage_and_what_follows(self, toy: Folder) -> None:
        toy.run()
        toy.write({"stages": {"bm25": {"params": {"k1": 1.2}}}})
        toy.run()
        assert toy.stages("skipped") == ["corpus"]
        assert toy.stages("started") == ["bm25", "score-bm25", "fit/0", "score-fit/0"]

    def test_an_argument_at_its_default_changes_nothing(self, toy: Folder) -> None:
        toy.run()
        toy.write({"stages": {"bm25": {"params": {"k1": 0.9}}}, "defaults": {"toy-fit": {"steps": 12}}})
        toy.run()
        assert toy.stages("started") == []

    def test_a_kinds_default_reaches_its_stages(self, toy: Folder) -> None:
        toy.run()
        toy.write({"defaults": {"toy-fit": {"steps": 3}}})
        toy.run()
        assert toy.stages("started") == ["fit/0", "score-fit/0"]

    def test_changed_data_runs_everything_that_reads_it(self, toy: Folder) -> None:
        toy.run()
        toy.write_data({**COLLECTION, "relevant": {**COLLECTION["relevant"], "q6": "nile"}})
        results = toy.run()
        assert len(toy.stages("started")) == 5
        assert {row.row: row.values["R@1"] for row in results.rows}["bm25"] == 1.0

    def test_data_moved_elsewhere_changes_nothing(self, toy: Folder) -> None:
        toy.run()
        moved = toy.place / "moved"
        toy.data.rename(moved)
        toy.run(data=moved)
        assert toy.stages("started") == []

    def test_a_new_code_version_runs_its_stage_again(self, toy: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        toy.run(rows=["bm25"])
        monkeypatch.setattr(toy_stages, "DATA_VERSION", "2")
        toy.run(rows=["bm25"])
        assert toy.stages("started") == ["corpus", "bm25", "score-bm25"]

    def test_going_back_finds_the_old_stages(self, toy: Folder) -> None:
        toy.run()
        toy.write({"stages": {"bm25": {"params": {"k1": 1.2}}}})
        toy.run()
        toy.write({})
        toy.run()
        assert toy.stages("started") == []

    def test_seeds_have_keys_of_their_own_and_one_system(self, toy: Folder) -> None:
        first, second = toy.run(rows=["fit"], seeds=[0, 1]).rows
        assert first.key == second.key
        assert first.stages["fit"]["key"] != second.stages["fit"]["key"]
        assert first.stages["corpus"] == second.stages["corpus"]

    def test_a_recipe_may_say_that_a_stage_is_not_seeded(self, toy: Folder) -> None:
        toy.write({"stages": {"corpus": {"seeded": True}}})
        toy.run(rows=["bm25"], seeds=[0, 1])
        assert toy.stages("started") == [
            f"{name}/{seed}" for seed in (0, 1) for name in ("corpus", "bm25", "score-bm25")
        ]


class TestTorn:
    @pytest.mark.parametrize("tear", ["truncate", "no-manifest", "no-record", "missing-file"])
    def test_a_torn_stage_is_made_again(self, toy: Folder, tear: str) -> None:
        toy.run()
        before = toy.results()
        (place,) = toy.out.glob("stages/bm25-*")
        match tear:
            case "truncate":
                (place / "run.json").write_text("{")
            case "no-manifest":
                (place / "manifest.json").unlink()
            case "no-record":
                (place / "stage.json").unlink()
            case "missing-file":
                (place / "run.json").unlink()
        toy.run()
        assert toy.stages("started") == ["bm25"]
        assert any("made again" in event.text for event in toy.events if event.name == "bm25")
        assert toy.results() == before

    def test_a_newer_versions_stage_is_refused_not_removed(self, toy: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as newer:
            newer.setattr("retgen.store.manifest.FORMAT_VERSION", 99)
            toy.run(rows=["bm25"])
        with pytest.raises(ArtefactError, match="newer"):
            toy.run(rows=["bm25"])
        assert len(list(toy.out.glob("stages/*-*"))) == 3

    @pytest.mark.parametrize("ends_well", [True, False])
    def test_a_stage_being_made_elsewhere_is_waited_for(self, toy: Folder, ends_well: bool) -> None:
        whole = toy.run(rows=["bm25"]).rows
        (place,) = toy.out.glob("stages/bm25-*")
        kept = place.with_name("kept")
        place.rename(kept)
        other = create(place, kind="stage")
        built = other.__enter__()
        runner = threading.Thread(target=toy.run, kwargs={"rows": ["bm25"]})
        runner.start()
        while not any("another process makes it" in event.text for event in toy.events):
            assert runner.is_alive()
            time.sleep(0.01)
        if ends_well:
            shutil.copytree(kept, built, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
            other.__exit__(None, None, None)
        else:
            with contextlib.suppress(KeyboardInterrupt):
                other.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        runner.join()
        assert ("bm25" in toy.stages("started")) == (not ends_well)
        assert toy.run(rows=["bm25"]).rows[0].values == whole[0].values


class TestKilled:
    """`kill -9` half-way, then the same command again: the same results."""

    @pytest.mark.slow
    @pytest.mark.parametrize("isolated", [False, True], ids=["in-process", "isolated"])
    def test_resumed_results_equal_uninterrupted_ones(
        self, toy: Folder, another: Callable[[str], Folder], isolated: bool
    ) -> None:
        whole = another("whole")
        for folder in (toy, whole):
            folder.write({"stages": {"fit": {"isolated": isolated}}})
        whole.run(seeds=[0, 1])

        process = _start(toy, "--seeds", "2", TOY_STEP_SECONDS="0.3")
        _wait_for(lambda: _steps(toy) >= 3, process)
        process.kill()
        process.wait()
        _wait_for_silence(toy)
        reached = _steps(toy)
        assert not list(toy.out.glob("stages/fit-*")), "it was not half-way"

        toy.run(seeds=[0, 1])
        assert "resumed" in [event.text for event in toy.events if event.state == "started"]
        assert f"resumed after step {reached}" in [event.text for event in toy.events]
        assert {"corpus", "bm25"} <= set(toy.stages("skipped"))
        assert toy.results() == whole.results()

        content = json.loads((toy.out / "results" / "fit-seed0.json").read_text())
        assert content["stages"]["fit"]["attempts"] == 2
        assert not (toy.out / "scratch").exists()

    def test_ctrl_c_keeps_the_state_and_exits_130(self, toy: Folder) -> None:
        process = _start(toy, TOY_STEP_SECONDS="0.3")
        _wait_for(lambda: _steps(toy) >= 2, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "run the same command again" in errors
        assert _steps(toy) >= 2
        assert not list(toy.out.glob("stages/.*building*"))

        toy.run()
        assert "resumed" in [event.text for event in toy.events if event.state == "started"]

    def test_ctrl_c_reaches_an_isolated_stage(self, toy: Folder) -> None:
        _write_trouble(toy, "wait", isolated=True)
        process = _start(toy)
        _wait_for(lambda: any(toy.out.glob("scratch/*/pid")), process)
        (pid_file,) = toy.out.glob("scratch/*/pid")
        _wait_for(lambda: bool(pid_file.read_text()), process)
        pid = int(pid_file.read_text())
        assert pid != process.pid
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
        _wait_for(lambda: not _alive(pid))

    def test_an_isolated_stage_dies_with_its_parent(self, toy: Folder) -> None:
        _write_trouble(toy, "wait", isolated=True)
        process = _start(toy)
        _wait_for(lambda: any(file.read_text() for file in toy.out.glob("scratch/*/pid")), process)
        (pid_file,) = toy.out.glob("scratch/*/pid")
        process.kill()
        process.wait()
        _wait_for(lambda: not _alive(int(pid_file.read_text())))


class TestFailures:
    @pytest.mark.parametrize("isolated", [False, True], ids=["in-process", "isolated"])
    @pytest.mark.parametrize(
        ("what", "says"),
        [
            ("value-error", ["ValueError: three is not four"]),
            ("usage-error", ["this cannot be used", "some.file:3", "Use another."]),
            ("reserved-name", ["'stage.json'"]),
        ],
    )
    def test_a_failure_names_the_stage_and_how_to_go_on(
        self, toy: Folder, what: str, says: list[str], isolated: bool
    ) -> None:
        _write_trouble(toy, what, isolated=isolated)
        with pytest.raises(StageError) as caught:
            toy.run()
        for part in (*says, "the stage 'trouble' failed", "Run the same command again"):
            assert part in str(caught.value)
        assert toy.stages("failed") == ["trouble"]
        (trace,) = (toy.out / "failures").iterdir()
        assert "toy_stages.py" in trace.read_text() or what == "reserved-name"
        assert not list(toy.out.glob("stages/trouble-*"))

    @pytest.mark.parametrize(("what", "says"), [("killed", "memory ran out"), ("exit", "exit status 7")])
    def test_an_isolated_stage_that_dies_is_a_failure(self, toy: Folder, what: str, says: str) -> None:
        _write_trouble(toy, what, isolated=True)
        with pytest.raises(StageError, match=says):
            toy.run()

    def test_mended_it_goes_on(self, toy: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        _write_trouble(toy, "value-error")
        monkeypatch.setenv("TOY_MENDED", str(toy.place / "mended"))
        with pytest.raises(StageError):
            toy.run()
        (toy.place / "mended").touch()
        (row,) = toy.run().rows
        assert row.values["ok"] == 1
        assert not (toy.out / "failures").exists()

    def test_an_interruption_goes_through(self, toy: Folder) -> None:
        _write_trouble(toy, "interrupt")
        with pytest.raises(KeyboardInterrupt):
            toy.run()

    @pytest.mark.parametrize("isolated", [False, True], ids=["in-process", "isolated"])
    def test_an_optional_row_is_left_out_where_an_extra_is_missing(self, toy: Folder, isolated: bool) -> None:
        _write_trouble(toy, "missing-extra", isolated=isolated, base=RECIPE, optional=True)
        results = toy.run(rows=["trouble", "bm25"])
        assert [row.row for row in results.rows] == ["bm25"]
        assert any("retgen[dense]" in event.text for event in toy.events if event.state == "row")

    def test_another_row_asks_for_the_extra(self, toy: Folder) -> None:
        _write_trouble(toy, "missing-extra")
        with pytest.raises(MissingExtraError, match="dense"):
            toy.run()

    def test_unknown_row(self, toy: Folder) -> None:
        with pytest.raises(UsageError, match=r"unknown row 'bm52'\. Did you mean 'bm25'\? Known: bm25, fit"):
            toy.run(rows=["bm52"])
        assert not toy.out.exists()

    @pytest.mark.parametrize("seeds", [[], [0, 0], [-1]])
    def test_unusable_seeds(self, toy: Folder, seeds: list[int]) -> None:
        with pytest.raises(UsageError, match="seeds"):
            toy.run(seeds=seeds)

    def test_no_data(self, toy: Folder) -> None:
        with pytest.raises(UsageError, match=r"needs data\. Made by the tests\. Give the folder with --data"):
            toy.run(data=None)

    def test_data_without_its_file(self, toy: Folder) -> None:
        (toy.data / "collection.json").unlink()
        with pytest.raises(UsageError, match=r"collection\.json"):
            toy.run()

    def test_a_folder_of_data_that_is_not_there(self, toy: Folder) -> None:
        with pytest.raises(UsageError, match="no such folder"):
            toy.run(data=toy.place / "nowhere")

    def test_a_loaded_recipe_keeps_its_scale(self, toy: Folder) -> None:
        with pytest.raises(UsageError, match="scale 'local'"):
            run_recipe(load_recipe(toy.recipe), toy.data, toy.out, scale="gpu")


class TestIsolated:
    @staticmethod
    def _write(toy: Folder, **isolated: bool) -> None:
        toy.write(
            {
                "stages": {
                    "small": {"kind": "toy-memory", "params": {"mebibytes": 8}, **isolated},
                    "large": {"kind": "toy-memory", "params": {"mebibytes": 200}, **isolated},
                },
                "rows": {"small": {"needs": ["small"]}, "large": {"needs": ["large"]}},
                "columns": ["bytes", {"key": "peak", "cost": {"of": "peak_memory_bytes"}}],
            },
            base=BARE,
        )

    @pytest.mark.slow
    def test_peak_memory_is_the_stages_own(self, toy: Folder) -> None:
        self._write(toy)
        ballast = bytearray(os.urandom(2**20)) * 300
        small, large = toy.run().rows
        assert len(ballast) > 0
        assert isinstance(small.values["peak"], int)
        assert isinstance(large.values["peak"], int)
        # 192 MiB apart by what they allocate; nothing of this process' own is in either.
        assert abs(large.values["peak"] - small.values["peak"] - 192 * 2**20) < 16 * 2**20
        assert small.stages["small"]["memory_growth_bytes"] < 24 * 2**20
        # The system counts pages in batches for each thread, so that its numbers are a little behind.
        assert large.stages["large"]["memory_growth_bytes"] > 196 * 2**20
        assert small.values["process"] != large.values["process"] != str(os.getpid())

    def test_progress_comes_through(self, toy: Folder) -> None:
        self._write(toy)
        toy.run(rows=["small"])
        assert [(e.done, e.total, e.text) for e in toy.events if e.state == "progress"] == [(1, 2, "allocated")]

    def test_in_this_process_growth_is_still_its_own(self, toy: Folder) -> None:
        self._write(toy, isolated=False)
        # A process that has trained before keeps freed memory, and would grow by less: take a fresh one.
        process = _start(toy, "--rows", "large")
        assert process.wait(timeout=120) == 0, process.stderr and process.stderr.read()
        large = json.loads((toy.out / "results" / "large.json").read_text())
        assert large["values"]["process"] == str(process.pid)
        assert 196 * 2**20 < large["stages"]["large"]["memory_growth_bytes"] < 240 * 2**20

    def test_costs_are_recorded(self, toy: Folder) -> None:
        fit = toy.run(rows=["fit"]).rows[0]
        assert set(fit.stages["fit"]) >= {"key", "finished", "wall_seconds", "cpu_seconds", "attempts"}
        assert fit.values["train s"] == fit.stages["fit"]["wall_seconds"] > 0
        assert fit.stages["fit"]["attempts"] == 1


def _start(toy: Folder, *options: str, **environment: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", "from retgen.cli import main; main()"]
    return subprocess.Popen(
        [*program, "run", str(toy.recipe), "--data", str(toy.data), "--out", str(toy.out), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=toy.place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _steps(toy: Folder) -> int:
    return max((json.loads(path.read_text())["done"] for path in toy.out.glob("scratch/*/checkpoint.json")), default=0)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, f"it ended early: {process.stderr and process.stderr.read()}"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def _wait_for_silence(toy: Folder) -> None:
    """Until an orphaned stage, if any, is dead too."""
    before = -1
    while (now := _steps(toy)) != before:
        before = now
        time.sleep(0.7)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
