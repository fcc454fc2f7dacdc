"""The comparison of beam and exact search counts what it says, on a model of a few thousand weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.docid_exactness import compare, table
from tests.train.toy import contexts, toy_system


def test_with_beams_for_all_nothing_is_missed_and_with_one_something_is() -> None:
    system = toy_system()
    system.settings = replace(system.settings, token_budget=60)  # several blocks
    count = len(system.table)
    wide = compare(system, contexts(), beams=count, k=3, expansions=10_000)
    assert wide.queries == len(contexts())
    assert wide.certified == 1.0
    assert wide.beam_misses_first == wide.beam_misses_best == 0.0
    assert wide.lookahead_misses_first == wide.lookahead_misses_best == 0.0
    narrow = compare(system, contexts(), beams=1, k=3, expansions=10_000)
    assert narrow.beam_misses_best == 1.0  # one beam finds one docid, not three
    poor = compare(system, contexts(), beams=2, k=3, expansions=1)
    assert poor.budget_ended == 1.0
    assert poor.certified == 0.0
    shown = table([wide, narrow, poor], 3, 10_000).to_markdown()
    assert "Certified %" in shown
    assert wide.certified + wide.budget_ended + wide.tied == pytest.approx(1.0)
