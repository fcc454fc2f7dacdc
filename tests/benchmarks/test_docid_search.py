"""The benchmark of docid search runs, and fails where what is found differs from its promise; no time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_docid_search import WAYS, Setting, check_at_least, check_same, main
from benchmarks.docid_texts import EOS, GrownDocids, passages

SMALLEST = [
    "--model", "tiny", "--batch", "2", "--queries", "3", "--repeats", "1", "--input-tokens", "6", "--length", "4", "6",
]  # fmt: skip


def test_json_has_a_result_for_every_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "times.svg"
    main([*SMALLEST, "--documents", "40", "3", "--beams", "4", "--ways", *WAYS, "--json", "--picture", str(picture)])
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert [result["setting"]["documents"] for result in found["results"]] == [40, 3]
    # Three queries; of three documents no more than three can be found.
    assert [result["hits_compared"] for result in found["results"]] == [12, 9]
    for result in found["results"]:
        names = [way["name"] for way in result["ways"]]
        assert names == list(WAYS)
        for way in result["ways"]:
            assert way["ratio"] == pytest.approx(result["peer_ms"] / way["ms"])
            assert way["model"] + way["constraint"] + way["rest"] == pytest.approx(1.0)
            assert way["passes"] > 0
            assert (way["certified"] is None) == (way["name"] != "exact")
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


def test_the_table_names_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALLEST, "--documents", "30", "--beams", "3", "--ways", "beam", "lookahead"])
    shown = capsys.readouterr().out
    for name in ("generate + dict trie", "beam", "lookahead", "bytes a document"):
        assert name in shown


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
    setting = Setting("tiny", 2, 2, 1)
    assert check_same(setting, [expected], [expected]) == 2
    with pytest.raises(SystemExit, match="query 0 has other hits"):
        check_same(setting, [found], [expected])


def test_what_is_worse_is_an_error() -> None:
    expected, setting = [((5, 1), -1.0), ((6, 1), -2.0)], Setting("tiny", 2, 2, 1)
    check_at_least(setting, [[((7, 1), -0.5), ((5, 1), -1.0)]], [expected])
    for worse in ([((5, 1), -1.0)], [((5, 1), -1.0), ((6, 1), -2.1)]):
        with pytest.raises(SystemExit, match="query 0 has worse hits"):
            check_at_least(setting, [worse], [expected])


def test_docids_are_distinct_of_the_wanted_length_and_follow_real_text(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    lines = [
        json.dumps({"text": f"iron rusts in wet air while gold number {n} does not rust at all"}) for n in range(9)
    ]
    (tmp_path / "one" / "corpus.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts = passages(tmp_path)
    assert len(texts) == 9
    docids = GrownDocids(texts, 300, np.random.default_rng(0)).docids(200, 6, 9)
    assert len(set(docids)) == 200
    assert all(6 <= len(docid) <= 9 and docid[-1] == EOS and EOS not in docid[:-1] for docid in docids)
    with pytest.raises(SystemExit, match=r"no corpus\.jsonl"):
        passages(tmp_path / "two")
