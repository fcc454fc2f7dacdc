"""UniGen's docid search by strategy and rule, and with a filter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from retgen.errors import UnknownDocumentError, UsageError
from retgen.generative import UniGen
from retgen.generative.docid_run import certificate_of
from retgen.generative.unigen import UniGenSettings
from tests.train.toy import contexts, toy_system

HEADS: dict[str, Any] = {"copy_head": True, "span_head": True}


@pytest.fixture(scope="module", params=[{}, HEADS], ids=["plain", "heads"])
def system(request: pytest.FixtureRequest) -> UniGen:
    return toy_system(**request.param)


def searching(system: UniGen, **changes: Any) -> UniGen:
    return UniGen(
        system.model, system.tokenizer, system.table, settings=replace(system.settings, **changes), device="cpu"
    )


def test_with_beams_for_all_every_strategy_finds_the_same(system: UniGen) -> None:
    queries, count = contexts(), len(system.table)
    whole = searching(system, num_beams=count).search(queries, count)
    for strategy in ("lookahead", "exact"):
        found = searching(system, num_beams=count, docid_strategy=strategy, max_expansions=10_000)
        run = found.search(queries, count)
        for query in queries:
            assert run.doc_ids(query.id) == whole.doc_ids(query.id)
            assert run.scores(query.id).tolist() == pytest.approx(whole.scores(query.id).tolist(), abs=1e-4)
        if strategy != "exact":
            assert run.component_names == ()
            continue
        for query in queries:
            for hit in run[query.id]:
                told = certificate_of(hit.components)
                assert told is not None
                assert (told["certified"], told["status"]) == (True, "certified")
                assert told["gap"] is None  # nothing is left out


def test_exact_says_when_its_budget_ended(system: UniGen) -> None:
    run = searching(system, docid_strategy="exact", max_expansions=1).search(contexts(), 2)
    told = [certificate_of(hit.components) for row in run.values() for hit in row]
    assert {(each["certified"], each["status"], each["expanded"]) for each in told if each} == {(False, "budget", 1)}
    assert None not in told
    beam = searching(system).search(contexts(), 2)
    assert {certificate_of(hit.components) for row in beam.values() for hit in row} == {None}


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", ["model", "trie"])
def test_a_filter_leaves_the_order_of_what_it_allows(system: UniGen, rule: str, strategy: str) -> None:
    queries, count = contexts(), len(system.table)
    found = searching(system, num_beams=count, docid_strategy=strategy, docid_rule=rule, max_expansions=10_000)
    everything = found.search(queries, count)
    allowed = system.table.doc_ids(range(0, count, 2))
    run = found.search(queries, count, allowed_documents=allowed)
    for query in queries:
        assert sorted(run.doc_ids(query.id)) == sorted(allowed)
        if rule == "model":
            assert run.doc_ids(query.id) == [d for d in everything.doc_ids(query.id) if d in allowed]
    assert found.search_and_answer(queries, count, allowed_documents=allowed)[0].to_dict() == run.to_dict()
    assert found.search(queries, count).to_dict() == everything.to_dict()
    assert [len(row) for row in found.search(queries, count, allowed_documents=[]).values()] == [0] * len(queries)


def test_wrong_options_are_errors(system: UniGen) -> None:
    with pytest.raises(UnknownDocumentError, match="nowhere"):
        system.search(contexts(), 2, allowed_documents=["nowhere"])
    with pytest.raises(UsageError, match="unknown docid_strategy"):
        UniGenSettings(docid_strategy="greedy")
    with pytest.raises(UsageError, match="unknown docid_rule"):
        UniGenSettings(docid_rule="children")
    with pytest.raises(UsageError, match="max_expansions"):
        UniGenSettings(max_expansions=0)
