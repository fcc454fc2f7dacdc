"""Runs and judgements: ranks, scores, components and empty queries come back exactly; a bad line is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import FormatError, MismatchError, RecordError, RetgenError
from retgen.formats import Skipped, read_qrels, read_run, write_qrels, write_run
from retgen.types import Run
from tests.formats import samples
from tests.formats.test_jsonl import IDS

SCORES = st.floats(allow_nan=False)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    query_ids = draw(st.lists(IDS, max_size=4, unique=True))
    doc_ids = [draw(st.lists(IDS, max_size=4, unique=True)) for _ in query_ids]
    names = draw(st.lists(st.sampled_from(["bm25", "cross_encoder", "joint"]), max_size=2, unique=True))

    def column() -> list[list[float]]:
        return [draw(st.lists(SCORES, min_size=len(ids), max_size=len(ids))) for ids in doc_ids]

    return Run(
        query_ids,
        doc_ids,
        column(),
        components={name: column() for name in names},
        fingerprint=draw(st.none() | st.just("abc")),
        presorted=draw(st.booleans()),
    )


def same(one: Run, two: Run) -> bool:
    return (
        one.query_ids == two.query_ids
        and one.fingerprint == two.fingerprint
        and one.component_names == two.component_names
        and all(one[query_id] == two[query_id] for query_id in one)
    )


@settings(deadline=None)
@given(runs())
def test_a_run_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.getbasetemp() / "run.trec"
    write_run(path, run)
    assert same(read_run(path), run)


@settings(deadline=None)
@given(runs())
def test_without_its_sidecar_ranks_and_scores_remain(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.getbasetemp() / "bare.trec"
    write_run(path, run)
    path.with_name("bare.trec.parquet").unlink()
    found = read_run(path)
    assert found.to_dict() == {query_id: row for query_id, row in run.to_dict().items() if row}


def test_the_file_is_the_fields(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(path, Run.from_dict({"q1": {"a": 1.0, "b": 2.5}, "empty": {}}), tag="mine")
    assert path.read_text() == "q1 Q0 b 1 2.5 mine\nq1 Q0 a 2 1.0 mine\n"
    assert read_run(path)["empty"] == ()


def test_ranks_are_the_order_whatever_the_scores_say(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q\tQ0\ta\t3\t9\tt\nq Q0 b 1 1 t\np Q0 z 0 -inf t\nq Q0 c 2 5e-1 t\n")
    run = read_run(path)
    assert run.doc_ids("q") == ["b", "c", "a"]
    assert run.query_ids == ("q", "p")
    assert run["p"][0].score == -math.inf


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("q1 Q0 d9 4 1.0", None),
        ("q1 Q0 d9 4 1.0 tag more", None),
        ("q1 Q0 d9 x 1.0 tag", "rank"),
        ("q1 Q0 d9 -1 1.0 tag", "rank"),
        ("q1 Q0 d9 1.0 1.0 tag", "rank"),
        ("q1 Q0 d9 ٣ 1.0 tag", "rank"),
        ("q1 Q0 d9 1 1.0 tag", "rank"),
        ("q1 Q0 d1 4 1.0 tag", "document"),
        ("q1 Q0 d9 4 nan tag", "score"),
        ("q1 Q0 d9 4 1_0 tag", "score"),
        ("q1 Q0 d\x009 4 1 tag", "document"),
        ("q\x00 Q0 d9 4 1 tag", "query"),
    ],
)
def test_a_bad_line_of_a_run_is_named(tmp_path: Path, line: str, field: str | None) -> None:
    path = tmp_path / "run.trec"
    path.write_text(f"q1 Q0 d1 1 5 tag\n{line}\nq1 Q0 d2 2 4 tag\n")
    with pytest.raises(RecordError) as caught:
        read_run(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 2, field)
    skipped = Skipped()
    assert read_run(path, skipped=skipped).doc_ids("q1") == ["d1", "d2"]
    assert skipped.count == 1


def test_a_sidecar_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(path, Run.from_dict({"q": {"a": 1.0}}))
    path.write_text("q Q0 b 1 1.0 t\n")
    with pytest.raises(MismatchError, match="has changed"):
        read_run(path)


def test_a_torn_sidecar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    write_run(path, Run.from_dict({"q": {"a": 1.0}}))
    sidecar = path.with_name("run.trec.parquet")
    good = sidecar.read_bytes()
    for data in (good[: len(good) // 2], b"", b"PAR1"):
        sidecar.write_bytes(data)
        with pytest.raises(FormatError, match="torn"):
            read_run(path)


def test_a_changed_byte_in_a_sidecar_changes_no_score(tmp_path: Path) -> None:
    """It is refused, or it was one of the bytes that say nothing about the run."""
    path = tmp_path / "run.trec"
    run = Run(["q"], [["a", "b"]], [[2.0, 1.0]], components={"bm25": [[7.0, 8.0]]}, fingerprint="abc")
    write_run(path, run)
    sidecar = path.with_name("run.trec.parquet")
    good = sidecar.read_bytes()
    refused = 0
    for place in range(0, len(good), 3):
        sidecar.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            assert same(read_run(path), run)
        except RetgenError:
            refused += 1
    assert refused > len(good) / 3 / 3


@pytest.mark.parametrize(
    "attempt",
    [
        lambda path: write_run(path, Run.from_dict({"a\tb": {"d": 1.0}})),
        lambda path: write_run(path, Run.from_dict({"q": {"": 1.0}})),
        lambda path: write_run(path, Run.from_dict({"q": {"d": 1.0}}), tag="two words"),
        lambda path: write_qrels(path, {"q": {"a\nb": 1}}),
        lambda path: write_qrels(path, {"q": {"d": 1}}, layout="csv"),
        lambda path: read_run(path.parent / "nowhere"),
        lambda path: read_qrels(path.parent / "nowhere"),
        lambda path: read_qrels(path.parent),
    ],
)
def test_what_cannot_be_written_or_read_is_refused(tmp_path: Path, attempt: object) -> None:
    with pytest.raises(RetgenError):
        attempt(tmp_path / "out")  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


@given(
    st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-2, 4), min_size=1, max_size=3), max_size=3),
    st.sampled_from(["trec", "beir"]),
)
def test_judgements_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, qrels: dict[str, dict[str, int]], layout: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "qrels.txt"
    write_qrels(path, qrels, layout=layout)
    assert read_qrels(path) == qrels


def test_judgements_in_all_their_layouts(tmp_path: Path) -> None:
    path = tmp_path / "qrels"
    path.write_text(samples.QRELS)
    assert read_qrels(path) == {"q1": {"d1": 1, "d2": 0}, "q2": {"d2": 2}}
    path.write_text(samples.BEIR_QRELS.replace("\n", "\r\n"))
    assert read_qrels(path) == {"q1": {"d1": 1}, "q2": {"d2": 2}}
    path.write_text("q1 \t0  d1\t1 \nq1 0 d1 1\n")
    assert read_qrels(path) == {"q1": {"d1": 1}}
    path.write_text("")
    assert read_qrels(path) == {}


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("q1 0 d2", "grade"),
        ("q1 0 d2 1 5", None),
        ("q1 d2", None),
        ("q1 0 d2 high", "grade"),
        ("q1 0 d2 1.0", "grade"),
        ("q1 0 d2 99999999999", "grade"),
        ("q1 0 d1 2", "grade"),
        ("query-id corpus-id score", "grade"),
    ],
)
def test_a_bad_judgement_is_named(tmp_path: Path, line: str, field: str | None) -> None:
    path = tmp_path / "qrels"
    path.write_text(f"q1 0 d1 1\n{line}\nq1 0 d3 1\n")
    with pytest.raises(RecordError) as caught:
        read_qrels(path)
    assert (caught.value.line, caught.value.field) == (2, field)
    skipped = Skipped()
    assert read_qrels(path, skipped=skipped) == {"q1": {"d1": 1, "d3": 1}}
    assert skipped.count == 1
