"""The benchmark of a search step's growth runs at every size; no time is asserted."""

from __future__ import annotations

import json

import pytest

from benchmarks.docid_growth import main

SMALL = [
    "--model",
    "tiny",
    "--documents",
    "50",
    "300",
    "--length",
    "6",
    "--queries",
    "3",
    "--batch",
    "2",
    "--repeats",
    "1",
]


def test_json_has_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    results = json.loads(line)["results"]
    assert [result["documents"] for result in results] == [50, 300]
    for result in results:
        # What chooses between docids, and one for what is left of them; both ways keep as many as they have beams.
        assert 1 < result["beam passes"] == result["lookahead passes"] < 6
        assert result["beam step"] > 0


def test_table_has_growth_from_the_first_size_on(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--ways", "beam"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert "growth" in rows[0]
    assert "1.00" in rows[2]
    assert len(rows) == 4
