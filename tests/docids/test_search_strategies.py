"""Thousands of random trees and models: what each strategy and rule promises, against searches written the long way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from retgen.docids.allowed import AllowedTree
from retgen.docids.hits import DocidHits
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.errors import RetgenError, UsageError
from tests.docids.naive import EOS, HashModel, random_docids
from tests.docids.synthetic import START, HashRows, all_scores, beams_the_long_way, documents_of

VOCAB = 24
RULES = ("model", "trie")
ROUNDS = range(4)
"""Each round is some hundred trees; rounds are tests of their own, so that they can run side by side."""
PER_ROUND = 60


@dataclass(frozen=True)
class Case:
    """A random tree, a random model and a random width."""

    seed: int
    docids: list[list[int]]
    batch: int
    num_beams: int
    k: int
    spread: float

    @classmethod
    def of(cls, seed: int) -> Case:
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 40))
        docids = random_docids(
            rng, count, vocab=VOCAB, longest=int(rng.integers(2, 10)), branching=int(rng.integers(1, 7))
        )
        return cls(
            seed, docids, int(rng.integers(1, 4)), int(rng.integers(1, 9)), int(rng.integers(1, count + 3)),
            float(rng.choice([0.3, 1.0, 3.0])),
        )  # fmt: skip

    @property
    def tree(self) -> PrefixTree:
        return PrefixTree.build(self.docids, eos_token_id=EOS)

    def model(self, **options: float) -> HashRows:
        return HashRows(self.batch, VOCAB, seed=self.seed, spread=self.spread, **options)

    def find(self, strategy: str, rule: str, **options: object) -> DocidHits:
        options = {"num_beams": self.num_beams, "k": self.k, "max_expansions": 10_000, **options}
        tree, model = options.pop("tree", None) or self.tree, options.pop("model", None) or self.model()
        return search(model, tree, start_token_id=START, strategy=strategy, rule=rule, **options)  # type: ignore[arg-type]


def cases(round_: int, count: int = PER_ROUND) -> list[Case]:
    return [Case.of(1000 * round_ + number) for number in range(count)]


def at_least(better: np.ndarray, other: np.ndarray) -> bool:
    """Rank by rank, and not fewer."""
    return len(better) >= len(other) and bool((better[: len(other)] >= other - 1e-4).all())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_beam_is_the_long_way(round_: int, rule: str) -> None:
    for case in cases(round_):
        hits = case.find("beam", rule)
        for query in range(case.batch):
            expected = documents_of(
                beams_the_long_way(case.model(), query, case.docids, case.num_beams, rule), case.docids
            )[: case.k]
            assert hits.documents[query].tolist() == [number for number, _ in expected], case
            assert hits.scores[query] == pytest.approx([score for _, score in expected], abs=1e-4), case


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_lookahead_is_rank_by_rank_at_least_beam_and_tells_the_truth(round_: int, rule: str) -> None:
    better = fewer = 0
    for case in cases(round_):
        beam_model, model = case.model(), case.model()
        beam, ahead = case.find("beam", rule, model=beam_model), case.find("lookahead", rule, model=model)
        for query in range(case.batch):
            assert at_least(ahead.scores[query], beam.scores[query]), case
            better += len(ahead.scores[query]) > len(beam.scores[query]) or bool(
                (ahead.scores[query][: len(beam.scores[query])] > beam.scores[query] + 1e-3).any()
            )
            truth = dict(documents_of(all_scores(case.model(), query, case.docids, rule), case.docids))
            found = ahead.documents[query].tolist()
            assert len(set(found)) == len(found)
            assert ahead.scores[query] == pytest.approx([truth[number] for number in found], abs=1e-4), case
        ends, beam_ends = (sum(tails for _, tails in passes) for passes in (model.passes, beam_model.passes))
        fewer += ends < beam_ends  # the best k are read first, and make others hopeless
        if case.k == case.num_beams:
            assert len(model.passes) <= len(beam_model.passes), case
    assert better  # it is not the same search
    assert fewer or rule == "trie"  # where nothing is read to its end


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_exact_is_exhaustive_scoring(round_: int, rule: str) -> None:
    certified = 0
    for case in cases(round_):
        hits = case.find("exact", rule)
        assert hits.certificates is not None
        for query, certificate in enumerate(hits.certificates):
            truth = documents_of(all_scores(case.model(), query, case.docids, rule), case.docids)
            certified += certificate.certified
            if certificate.certified:
                assert hits.documents[query].tolist() == [number for number, _ in truth[: case.k]], case
            else:
                assert certificate.status == "tie", case
                assert truth[case.k - 1][1] - truth[case.k][1] < 2e-4, case
            assert hits.scores[query] == pytest.approx([score for _, score in truth[: case.k]], abs=1e-4), case
    assert certified > PER_ROUND


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", range(2))
def test_an_exact_search_says_when_its_budget_ended(round_: int, rule: str) -> None:
    ended = 0
    for case in cases(round_):
        budget = int(np.random.default_rng(case.seed).integers(1, 12))
        hits = case.find("exact", rule, max_expansions=budget)
        ahead = case.find("lookahead", rule)
        assert hits.certificates is not None
        for query, certificate in enumerate(hits.certificates):
            truth = documents_of(all_scores(case.model(), query, case.docids, rule), case.docids)[: case.k]
            assert certificate.expanded <= budget
            assert certificate.certified == (certificate.status == "certified")
            assert at_least(hits.scores[query], ahead.scores[query]), case
            if certificate.certified:
                assert hits.documents[query].tolist() == [number for number, _ in truth], case
                assert certificate.gap >= certificate.tolerance
            else:
                ended += 1
                assert certificate.status == "budget"
                assert certificate.gap < certificate.tolerance
    assert ended > 50


@pytest.mark.parametrize("rule", RULES)
def test_equal_docids_are_never_certified_to_be_better(rule: str) -> None:
    ties = 0
    for case in cases(20):
        model = case.model(coarse=True)
        hits = case.find("exact", rule, model=model)
        assert hits.certificates is not None
        for query, certificate in enumerate(hits.certificates):
            scored = all_scores(case.model(coarse=True), query, case.docids, rule)
            truth = documents_of(scored, case.docids)
            last, rest = truth[: case.k][-1], truth[case.k :]
            tied = [number for number, score in rest if abs(score - last[1]) < 1e-4]
            # What shares the last hit's docid is left out by the stated order, not by chance.
            tied = [number for number in tied if case.docids[number] != case.docids[last[0]]]
            ties += bool(tied)
            assert certificate.status == ("tie" if tied else "certified"), case
            assert hits.scores[query] == pytest.approx([score for _, score in truth[: case.k]], abs=1e-4)
    assert ties


@pytest.mark.parametrize("rule", RULES)
def test_an_exact_search_of_a_coarse_model_is_judged_in_fp32(rule: str) -> None:
    certified = 0
    for case in cases(21):
        hits = case.find("exact", rule, model=case.model(noise=0.02))
        assert hits.certificates is not None
        for query, certificate in enumerate(hits.certificates):
            truth = documents_of(all_scores(case.model(), query, case.docids, rule), case.docids)
            scores = dict(truth)
            found = hits.documents[query].tolist()
            assert hits.scores[query] == pytest.approx([scores[number] for number in found], abs=1e-4), case
            if certificate.certified:
                certified += 1
                assert sorted(found) == sorted(number for number, _ in truth[: case.k]), case
    assert certified > PER_ROUND


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", range(2))
def test_a_filter_is_the_tree_without_the_others(round_: int, rule: str, strategy: str) -> None:
    for case in cases(30 + round_, 12):
        rng = np.random.default_rng(case.seed)
        kept = np.sort(rng.choice(len(case.docids), size=int(rng.integers(1, len(case.docids) + 1)), replace=False))
        docids = [case.docids[number] for number in kept]
        alone = case.find(strategy, rule, tree=PrefixTree.build(docids, eos_token_id=EOS))
        mask = np.isin(np.arange(len(case.docids) + 3), kept)
        for given in (kept, [*kept, 9999], mask):
            hits = case.find(strategy, rule, allowed_documents=given)
            for query in range(case.batch):
                assert hits.documents[query].tolist() == kept[alone.documents[query]].tolist(), case
                assert hits.scores[query] == pytest.approx(alone.scores[query], abs=1e-4), case


@pytest.mark.parametrize("round_", range(2))
def test_exact_with_a_filter_is_exhaustive_scoring_filtered_afterwards(round_: int) -> None:
    """Under ``model``. Under ``trie`` a filter changes the scores of what it leaves."""
    for case in cases(40 + round_):
        rng = np.random.default_rng(case.seed)
        kept = np.flatnonzero(rng.random(len(case.docids)) < 0.5)
        hits = case.find("exact", "model", allowed_documents=kept)
        for query in range(case.batch):
            truth = documents_of(all_scores(case.model(), query, case.docids, "model"), case.docids)
            expected = [(number, score) for number, score in truth if number in kept][: case.k]
            assert hits.documents[query].tolist() == [number for number, _ in expected], case
            assert hits.scores[query] == pytest.approx([score for _, score in expected], abs=1e-4), case


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", RULES)
def test_hubs_are_nodes_like_others(monkeypatch: pytest.MonkeyPatch, rule: str, strategy: str) -> None:
    for coarse in (False, True):
        plain = [case.find(strategy, rule, model=case.model(coarse=coarse)) for case in cases(50, 10)]
        with monkeypatch.context() as patch:
            patch.setattr("retgen.docids.allowed.HUB", 3)
            patch.setattr("retgen.docids.gather.HUB", 3)
            for case, expected in zip(cases(50, 10), plain, strict=True):
                hits = case.find(strategy, rule, model=case.model(coarse=coarse))
                for query in range(case.batch):
                    assert hits.documents[query].tolist() == expected.documents[query].tolist(), case
                    assert hits.scores[query] == pytest.approx(expected.scores[query], abs=1e-5), case


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", RULES)
def test_queries_and_sessions_of_equal_rows_change_nothing(rule: str, strategy: str) -> None:
    for seed in range(8):
        case = Case.of(seed)
        together = search(
            HashModel(3, VOCAB, seed=seed), case.tree, start_token_id=START, strategy=strategy, rule=rule, k=5,
            num_beams=case.num_beams,
        )  # fmt: skip
        blocks = case.find(strategy, rule)
        for query in range(case.batch):
            model = HashRows(case.batch, VOCAB, seed=seed, spread=case.spread)
            # The query alone: its own hash, as the first of a block of one.
            alone = HashRows(1, VOCAB, seed=seed, spread=case.spread)
            alone.starts = lambda queries, q=query, m=model: m.starts(queries + q)  # type: ignore[method-assign]
            alone.state = alone.starts(np.zeros(1, dtype=np.int64))
            hits = case.find(strategy, rule, model=alone)
            assert hits.documents[0].tolist() == blocks.documents[query].tolist()
        for query in range(3):
            found, docids = together.documents[query].tolist(), case.docids
            exhaustive = HashModel(3, VOCAB, seed=seed)
            if rule == "model":
                truth = dict(documents_of(exhaustive.exhaustive(query, docids), docids))
                assert together.scores[query] == pytest.approx([truth[number] for number in found], abs=1e-4)
            assert len(set(found)) == len(found) == min(5, len(found))


def test_a_filter_that_leaves_nothing_finds_nothing() -> None:
    case = Case.of(3)
    for strategy in ("beam", "lookahead", "exact"):
        for rule in RULES:
            hits = case.find(strategy, rule, allowed_documents=[])
            assert [len(row) for row in hits.documents] == [0] * case.batch
    assert hits.certificates is not None
    assert all(certificate.certified for certificate in hits.certificates)


def test_a_shared_docid_gives_its_documents_in_the_stated_order() -> None:
    docids = [[3, EOS], [4, 5, EOS], [3, EOS], [3, EOS], [6, EOS]]
    tree = PrefixTree.build(docids, eos_token_id=EOS)

    def found(**options: object) -> list[list[int]]:
        shared = {0, 2, 3}
        rows = []
        for strategy in ("beam", "lookahead", "exact"):
            hits = search(
                HashRows(1, VOCAB, seed=5), tree, start_token_id=START, num_beams=5, k=5, strategy=strategy, **options
            )  # type: ignore[arg-type]
            rows.append([number for number in hits.documents[0].tolist() if number in shared])
        return rows

    assert found() == [[0, 2, 3]] * 3
    assert found(document_order=[1.0, 9.0, 3.0, 1.0, 0.0]) == [[2, 0, 3]] * 3
    dates = np.array(["2020-01-01", "1999-01-01", "2020-01-01", "2021-01-01", "2000-01-01"], dtype="datetime64[D]")
    assert found(document_order=dates) == [[3, 0, 2]] * 3
    assert found(allowed_documents=[2, 3, 4]) == [[2, 3]] * 3


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
def test_one_document_is_read_in_one_pass(strategy: str) -> None:
    model = HashRows(2, VOCAB)
    tree = PrefixTree.build([[5, 7, 6, EOS]], eos_token_id=EOS)
    hits = search(model, tree, start_token_id=START, k=3, strategy=strategy)
    assert [row.tolist() for row in hits.documents] == [[0], [0]]
    assert model.passes == ([] if strategy == "exact" else [(0, 2)])


def test_the_first_step_reads_one_row_per_query() -> None:
    for strategy in ("beam", "lookahead"):
        model = HashRows(3, VOCAB)
        search(model, Case.of(11).tree, start_token_id=START, num_beams=8, strategy=strategy)
        assert sum(model.passes[0]) == 3


def test_under_trie_an_only_child_needs_no_model() -> None:
    model = HashRows(1, VOCAB)
    tree = PrefixTree.build([[2, 5, 6, 7, 8, 9, EOS], [3, 5, 6, 7, 8, 9, EOS]], eos_token_id=EOS)
    for strategy in ("beam", "lookahead"):
        model = HashRows(1, VOCAB)
        hits = search(model, tree, start_token_id=START, rule="trie", strategy=strategy)
        assert model.passes == [(1, 0)]
        assert np.exp(hits.scores[0]).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float, rule: str, strategy: str) -> None:
    class Broken(HashRows):
        def logits_at(self, state: np.ndarray) -> np.ndarray:
            logits = super().logits_at(state)
            logits[..., 7] = bad
            return logits

    tree = PrefixTree.build([[7, 3, EOS], [5, 7, EOS], [5, 8, EOS]], eos_token_id=EOS)
    with pytest.raises(RetgenError, match="not finite"):
        search(Broken(1, VOCAB), tree, start_token_id=START, strategy=strategy, rule=rule)


@pytest.mark.parametrize("strategy", ["beam", "lookahead", "exact"])
@pytest.mark.parametrize("rule", RULES)
def test_what_the_model_cannot_write_is_not_found(rule: str, strategy: str) -> None:
    class Never4(HashRows):
        def logits_at(self, state: np.ndarray) -> np.ndarray:
            logits = super().logits_at(state)
            logits[..., 4] = -np.inf
            return logits

    tree = PrefixTree.build([[4, EOS], [5, EOS], [6, 4, EOS], [6, 4, 7, EOS], [4, 4, EOS]], eos_token_id=EOS)
    hits = search(Never4(1, VOCAB), tree, start_token_id=START, strategy=strategy, rule=rule)
    # Under trie an only child is never in doubt: 4 after 6.
    assert sorted(hits.documents[0].tolist()) == ([1] if rule == "model" else [1, 2, 3])


def test_a_session_that_only_steps_can_be_searched_by_beam_alone() -> None:
    class Stepping:
        def __init__(self) -> None:
            self._model = HashModel(1, VOCAB)
            self.batch_size, self.vocab_size = 1, VOCAB
            self.step, self.reorder = self._model.step, self._model.reorder

    tree = PrefixTree.build([[3, 4, EOS], [5, EOS]], eos_token_id=EOS)
    assert len(search(Stepping(), tree, start_token_id=START).documents[0]) == 2
    with pytest.raises(UsageError, match="cannot read texts to their ends"):
        search(Stepping(), tree, start_token_id=START, strategy="lookahead")


def test_a_tree_with_its_filter_takes_no_other() -> None:
    case = Case.of(5)
    view = AllowedTree(case.tree, [0])
    assert case.find("exact", "model", tree=view).documents[0].tolist() == [0]
    with pytest.raises(UsageError, match="has its filter already"):
        case.find("exact", "model", tree=view, allowed_documents=[0])
