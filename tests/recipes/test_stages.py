"""Kinds of stages check what a recipe gives them, and stages are held to what they declared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retgen.errors import UsageError
from retgen.recipes import Event, StageContext, StageError, stage
from retgen.recipes.stages import stage_kind
from tests.recipes import toy_stages
from tests.recipes.conftest import Folder


def _context(place: Path, **changes: Any) -> StageContext:
    settings: dict[str, Any] = {
        "name": "s",
        "folder": place,
        "scratch": place,
        "cache": place,
        "inputs": {},
        "data": None,
        "data_files": (),
        "listen": lambda event: None,
        "seed_or_none": None,
    }
    return StageContext(**{**settings, **changes})


class TestArguments:
    def test_numbers_that_yaml_reads_as_text_are_numbers(self) -> None:
        checked = stage_kind("toy-bm25").check_params({"k1": "9e-1"})
        assert checked.model_dump() == {"k1": 0.9, "b": 0.4}

    def test_an_unknown_one_is_named_with_its_place(self, toy: Folder) -> None:
        toy.write({"stages": {"bm25": {"params": {"stemer": 1}}}})
        with pytest.raises(UsageError) as caught:
            toy.run(rows=["bm25"])
        assert "[stages.bm25.params.stemer]: unknown argument of 'toy-bm25' 'stemer'" in str(caught.value)
        assert "Known: k1, b" in str(caught.value)
        line = int(str(caught.value).partition("toy.yaml:")[2].partition(" ")[0])
        assert toy.recipe.read_text().splitlines()[line - 1].strip() == "stemer: 1"

    def test_a_wrong_default_is_named_where_it_stands(self, toy: Folder) -> None:
        toy.write({"defaults": {"toy-fit": {"steps": "many"}}})
        with pytest.raises(UsageError, match=r"\[defaults\.toy-fit\.steps\]: the argument 'steps' .* got 'many'"):
            toy.run(rows=["bm25"])

    def test_one_without_a_type_is_refused(self) -> None:
        with pytest.raises(UsageError, match="needs a type"):

            @stage("toy-untyped")
            def untyped(context: StageContext, size=3) -> None:  # type: ignore[no-untyped-def]
                pass

    def test_open_ended_ones_are_refused(self) -> None:
        with pytest.raises(UsageError, match="needs a type"):

            @stage("toy-open")
            def open_ended(context: StageContext, **rest: int) -> None:
                pass


class TestKinds:
    def test_a_name_is_taken_once(self) -> None:
        with pytest.raises(UsageError, match=r"taken by tests\.recipes\.toy_stages\.bm25"):

            @stage("toy-bm25")
            def another(context: StageContext) -> None:
                pass

    def test_registering_the_same_function_again_is_no_clash(self) -> None:
        assert stage("toy-numbers", seeded=True)(toy_stages.numbers) is toy_stages.numbers

    def test_an_unknown_kind_is_named_with_its_place(self, toy: Folder) -> None:
        toy.write({"stages": {"bm25": {"kind": "toy-bm52"}}})
        with pytest.raises(UsageError, match=r"\[stages\.bm25\.kind\]: unknown kind .* Did you mean 'toy-bm25'"):
            toy.run(rows=["bm25"])

    def test_a_slip_in_a_stage_that_is_not_needed_is_met_too(self, toy: Folder) -> None:
        toy.write({"stages": {"fit": {"params": {"stps": 3}}}})
        with pytest.raises(UsageError, match="Did you mean 'steps'"):
            toy.run(rows=["bm25"])

    def test_a_missing_need_is_named(self, toy: Folder) -> None:
        toy.write({"stages": {"fit": {"needs": ["corpus"]}}})
        with pytest.raises(UsageError, match="'toy-fit' needs 'run'"):
            toy.run()

    def test_an_unknown_need_is_named(self, toy: Folder) -> None:
        toy.write({"stages": {"bm25": {"needs": {"corpsu": "corpus", "corpus": "corpus"}}}})
        with pytest.raises(UsageError, match=r"unknown need of 'toy-bm25' 'corpsu'\. Did you mean 'corpus'"):
            toy.run()

    def test_a_need_may_be_optional(self) -> None:
        @stage("toy-optional", needs=["corpus", "extra?"])
        def optional(context: StageContext) -> None:
            pass

        kind = stage_kind("toy-optional")
        kind.check_needs(["corpus"], where="here")
        kind.check_needs(["corpus", "extra"], where="here")
        with pytest.raises(UsageError, match="'corpus'"):
            kind.check_needs(["extra"], where="here")

    def test_a_module_that_is_not_there(self, toy: Folder) -> None:
        toy.write({"modules": ["tests.recipes.no_such_module"]})
        with pytest.raises(UsageError, match=r"\[modules\.0\]: there is no module 'tests\.recipes\.no_such_module'"):
            toy.run()


class TestContext:
    def test_a_seed_must_be_declared(self, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="not registered as seeded"):
            _ = _context(tmp_path).seed
        assert _context(tmp_path, seed_or_none=0).seed == 0

    def test_an_input_must_be_needed(self, tmp_path: Path) -> None:
        context = _context(tmp_path, inputs={"corpus": tmp_path})
        assert context.input("corpus") == tmp_path
        with pytest.raises(StageError, match="'model'"):
            context.input("model")

    def test_a_data_file_must_be_declared(self, tmp_path: Path) -> None:
        context = _context(tmp_path, data=tmp_path, data_files=("a.json", "b.json"))
        assert context.data_file("b.json") == tmp_path / "b.json"
        for name in ("c.json", None):
            with pytest.raises(StageError, match="declares"):
                context.data_file(name)
        assert _context(tmp_path, data=tmp_path, data_files=("a.json",)).data_file() == tmp_path / "a.json"

    def test_the_runner_passes_data_files_of_a_pattern(self, toy: Folder) -> None:
        toy.write({"stages": {"corpus": {"data": ["*.json"]}}})
        assert toy.run(rows=["bm25"]).rows

    @pytest.mark.parametrize("pattern", ["../toy.yaml", "/etc/hosts"])
    def test_data_lies_inside_its_folder(self, toy: Folder, pattern: str) -> None:
        toy.write({"stages": {"corpus": {"data": [pattern]}}})
        with pytest.raises(UsageError, match="not inside the data folder"):
            toy.run()

    def test_progress_and_messages_reach_the_listener(self, tmp_path: Path) -> None:
        heard: list[Event] = []
        context = _context(tmp_path, listen=heard.append, seed_or_none=3)
        context.progress(1, 4, "epoch")
        context.log("resumed")
        assert heard == [
            Event("progress", "s", 3, done=1, total=4, text="epoch"),
            Event("message", "s", 3, text="resumed"),
        ]


class TestReport:
    def test_numpy_numbers_become_plain_ones(self, tmp_path: Path) -> None:
        context = _context(tmp_path)
        context.report(
            {"a": np.float32(0.5), "n": 3, "t": "text", "none": None}, per_question={"a": {"q": np.float64(1)}}
        )  # type: ignore[dict-item]
        assert context.reported.values == {"a": 0.5, "n": 3, "t": "text", "none": None}
        assert type(context.reported.values["a"]) is float
        assert type(context.reported.per_question["a"]["q"]) is float

    def test_a_name_is_reported_once(self, tmp_path: Path) -> None:
        context = _context(tmp_path)
        context.report({"a": 1.0})
        with pytest.raises(StageError, match="'a' is reported twice"):
            context.report({"a": 2.0})

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_numbers_are_finite(self, tmp_path: Path, value: float) -> None:
        with pytest.raises(StageError, match="not a finite number"):
            _context(tmp_path).report({"a": value})
        with pytest.raises(StageError, match="not a finite number"):
            _context(tmp_path).report({}, per_question={"a": {"q": value}})
