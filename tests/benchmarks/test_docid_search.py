"""The benchmark of docid search runs, and fails where the two searches find different things; no time is asserted."""

from __future__ import annotations

import json

import pytest

from benchmarks.bench_docid_search import Setting, check_same, main

SMALLEST = ["--model", "tiny", "--batch", "2", "--queries", "3", "--repeats", "1", "--input-tokens", "6"]


def test_json_has_a_result_for_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALLEST, "--documents", "40", "3", "--beams", "4", "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert [result["setting"]["documents"] for result in found["results"]] == [40, 3]
    # Three queries; of three documents no more than three can be found.
    assert [result["hits_compared"] for result in found["results"]] == [12, 9]
    for result in found["results"]:
        assert result["ratio"] == pytest.approx(result["peer_ms"] / result["ours_ms"])


@pytest.mark.parametrize(
    "found",
    [
        [((5, 1), -1.0), ((6, 1), -2.001)],  # another score
        [((6, 1), -1.0), ((5, 1), -2.0)],  # another order
        [((5, 1), -1.0)],  # a hit is missing
    ],
)
def test_what_differs_is_an_error(found: list[tuple[tuple[int, ...], float]]) -> None:
    expected = [((5, 1), -1.0), ((6, 1), -2.0)]
    assert check_same(Setting("tiny", 2, 2, 1), [expected], [expected]) == 2
    with pytest.raises(SystemExit, match="query 0 has other hits"):
        check_same(Setting("tiny", 2, 2, 1), [found], [expected])
