"""The benchmark of query likelihood runs, samples passages and not queries, and fails where scores differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_query_likelihood import largest_difference, main, real_work

WORDS = "iron tin gold zinc lead melts rusts shines bends breaks in air water fire ice mud".split()


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """30 passages and 8 judged questions, one more of another split, in BEIR's format."""
    passages = [
        {"_id": f"d{n}", "title": WORDS[n % 5], "text": " ".join(WORDS[(n * k) % 15] for k in range(1, 4 + n % 9))}
        for n in range(30)
    ]
    questions = [{"_id": f"q{n}", "text": f"which metal {WORDS[5 + n % 5]} in {WORDS[11 + n % 4]}"} for n in range(9)]
    for name, rows in (("corpus", passages), ("queries", questions)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "qrels").mkdir()
    judged = "\n".join(f"q{n}\td{n}\t1" for n in range(8))
    (tmp_path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}\n")
    return tmp_path


def test_json_compares_three_ways(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--data", str(collection), "--source", "scratch:tiny", "--passages", "9", "--repeats", "1", "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    (result,) = json.loads(line)["results"]
    assert result["passages"] == 9
    assert result["queries"] == 8
    assert result["pairs"] == result["pairs_per_passage"] * 9
    assert result["cold_ratio"] == pytest.approx(result["pair_by_pair"] / result["cold"])
    assert result["warm_ratio"] == pytest.approx(result["pair_by_pair"] / result["warm"])
    assert 0 <= result["largest_difference"] <= 1e-4


def test_the_table_names_every_way(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--data", str(collection), "--source", "scratch:tiny", "--passages", "4", "--repeats", "1"])
    shown = capsys.readouterr().out
    for name in ("a forward pass for every pair", "each passage once", "from a warm cache"):
        assert name in shown


def test_a_sample_of_passages_keeps_all_their_pairs(collection: Path) -> None:
    whole = real_work(collection, 0, 100, 0, seed=0)
    assert whole.sharing == whole.run_sharing
    part = real_work(collection, 0, 100, 6, seed=1)
    assert len(part.candidates.passages) == 6
    assert part.run_sharing == whole.sharing

    def pairs(work: object) -> set[tuple[str, str]]:
        found = work.candidates  # type: ignore[attr-defined]
        return {(found.queries[query].id, found.passages[passage].id) for query, passage in found.pairs}

    chosen = {passage.id for passage in part.candidates.passages}
    assert pairs(part) == {pair for pair in pairs(whole) if pair[1] in chosen}


def test_other_scores_are_an_error() -> None:
    same = np.array([-1.0, -2.0])
    assert largest_difference({"one": same, "other": same + 5e-5}) == pytest.approx(5e-5)
    for other in (same + 2e-4, np.array([-1.0, np.nan])):
        with pytest.raises(SystemExit, match="scores differ"):
            largest_difference({"one": same, "other": other})


def test_without_data_it_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--data"):
        main(["--data", str(tmp_path / "nothing")])
