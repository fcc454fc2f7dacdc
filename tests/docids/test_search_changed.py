"""A search over a tree that changed finds what one over a tree built anew does, and nothing that was removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from retgen.docids.hits import DocidHits
from retgen.docids.layered_tree import LayeredTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from tests.docids.naive import EOS, random_docids
from tests.docids.synthetic import START, HashRows, all_scores, beams_the_long_way, documents_of

VOCAB = 24
RULES = ("model", "trie")
STRATEGIES = ("beam", "lookahead", "exact")
ROUNDS = range(2)
PER_ROUND = 40


@dataclass(frozen=True)
class Changed:
    """A random tree from which documents were taken and to which others were added, and a random model."""

    seed: int
    docids: dict[int, list[int]]
    """Of the documents present, by number."""
    built: PrefixTree
    gone: np.ndarray
    added: PrefixTree | None
    num_beams: int
    k: int
    spread: float

    @classmethod
    def of(cls, seed: int) -> Changed:
        rng = np.random.default_rng(seed)
        built, later = int(rng.integers(1, 26)), int(rng.integers(0, 13))
        docids = random_docids(
            rng, built + later, vocab=VOCAB, longest=int(rng.integers(2, 9)), branching=int(rng.integers(1, 6))
        )
        # Of those added, too, some are gone again: they are in no tree.
        gone = np.flatnonzero(rng.random(built) < rng.choice([0.1, 0.5, 0.9]))
        new = np.flatnonzero(rng.random(later) < 0.8) + built
        kept = np.concatenate([np.setdiff1d(np.arange(built), gone), new])
        return cls(
            seed, {int(n): docids[n] for n in kept}, tree_of(docids, np.arange(built)), gone,
            tree_of(docids, new) if len(new) else None, int(rng.integers(1, 9)),
            int(rng.integers(1, built + later + 3)), float(rng.choice([0.3, 1.0, 3.0])),
        )  # fmt: skip

    @property
    def layered(self) -> LayeredTree:
        return LayeredTree(self.built, removed=self.gone, added=self.added)

    @property
    def anew(self) -> PrefixTree:
        return tree_of(self.docids, np.array(sorted(self.docids)))

    def model(self, **options: float) -> HashRows:
        return HashRows(2, VOCAB, seed=self.seed, spread=self.spread, **options)

    def find(self, tree: LayeredTree | PrefixTree, strategy: str, rule: str, **options: object) -> DocidHits:
        options = {"num_beams": self.num_beams, "k": self.k, "max_expansions": 10_000, **options}
        model = options.pop("model", None) or self.model()
        return search(model, tree, start_token_id=START, strategy=strategy, rule=rule, **options)  # type: ignore[arg-type]

    def truth(self, query: int, rule: str) -> list[tuple[int, float]]:
        """Every document present with its score, best first; those of one docid in corpus order."""
        return self.numbered(all_scores(self.model(), query, list(self.docids.values()), rule))

    def numbered(self, scored: list[tuple[tuple[int, ...], float]]) -> list[tuple[int, float]]:
        numbers, docids = sorted(self.docids), [self.docids[number] for number in sorted(self.docids)]
        return [(numbers[place], score) for place, score in documents_of(scored, docids)]


def tree_of(docids: list[list[int]] | dict[int, list[int]], numbers: np.ndarray) -> PrefixTree:
    tokens = np.array([token for number in numbers for token in docids[int(number)]])
    offsets = np.cumsum([0, *(len(docids[int(number)]) for number in numbers)])
    return PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS, numbers=numbers)


def cases(round_: int) -> list[Changed]:
    made = [Changed.of(7000 + 1000 * round_ + number) for number in range(PER_ROUND)]
    return [case for case in made if case.docids]


def same(found: DocidHits, expected: DocidHits, case: Changed) -> None:
    for query in range(2):
        assert found.documents[query].tolist() == expected.documents[query].tolist(), case
        assert found.leaves[query].tolist() == expected.leaves[query].tolist(), case
        assert found.scores[query] == pytest.approx(expected.scores[query], abs=1e-5), case
        assert not set(found.documents[query].tolist()) & set(case.gone.tolist())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_changed_trees_are_searched_as_trees_built_anew(round_: int, rule: str, strategy: str) -> None:
    layers = 0
    for case in cases(round_):
        found, expected = case.find(case.layered, strategy, rule), case.find(case.anew, strategy, rule)
        same(found, expected, case)
        if strategy == "exact":
            pairs = zip(found.certificates or [], expected.certificates or [], strict=True)
            assert all((one.status, one.expanded) == (other.status, other.expanded) for one, other in pairs)
        layers += case.added is not None and len(case.gone) > 0
    assert layers > PER_ROUND // 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_beam_over_a_changed_tree_is_the_long_way(round_: int, rule: str) -> None:
    for case in cases(round_):
        hits = case.find(case.layered, "beam", rule)
        for query in range(2):
            scored = beams_the_long_way(case.model(), query, list(case.docids.values()), case.num_beams, rule)
            expected = case.numbered(scored)[: case.k]
            assert hits.documents[query].tolist() == [number for number, _ in expected], case
            assert hits.scores[query] == pytest.approx([score for _, score in expected], abs=1e-4), case


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_lookahead_over_a_changed_tree_is_at_least_beam_and_tells_the_truth(round_: int, rule: str) -> None:
    for case in cases(round_):
        beam, ahead = (case.find(case.layered, strategy, rule) for strategy in ("beam", "lookahead"))
        for query in range(2):
            scores, others = ahead.scores[query], beam.scores[query]
            assert len(scores) >= len(others), case
            assert (scores[: len(others)] >= others - 1e-4).all(), case
            truth = dict(case.truth(query, rule))
            found = ahead.documents[query].tolist()
            assert len(set(found)) == len(found)
            assert scores == pytest.approx([truth[number] for number in found], abs=1e-4), case


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("round_", ROUNDS)
def test_exact_over_a_changed_tree_is_exhaustive_scoring_of_who_is_there(round_: int, rule: str) -> None:
    certified = 0
    for case in cases(round_):
        hits = case.find(case.layered, "exact", rule)
        for query, certificate in enumerate(hits.certificates or []):
            truth = case.truth(query, rule)
            assert hits.scores[query] == pytest.approx([score for _, score in truth[: case.k]], abs=1e-4), case
            if certificate.certified:
                certified += 1
                assert hits.documents[query].tolist() == [number for number, _ in truth[: case.k]], case
            else:
                assert certificate.status == "tie", case
    assert certified > PER_ROUND


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rule", RULES)
def test_a_filter_over_a_changed_tree_knows_only_who_is_there(rule: str, strategy: str) -> None:
    for case in cases(5):
        rng = np.random.default_rng(case.seed)
        numbers = np.arange(max(*case.docids, *case.gone.tolist(), 0) + 3)
        allowed = numbers[rng.random(len(numbers)) < 0.5]  # of those that are gone, too
        found = case.find(case.layered, strategy, rule, allowed_documents=allowed)
        same(found, case.find(case.anew, strategy, rule, allowed_documents=allowed), case)
        assert all(set(row.tolist()) <= set(allowed.tolist()) & set(case.docids) for row in found.documents)
        if strategy == "exact" and rule == "model":
            for query in range(2):
                truth = [pair for pair in case.truth(query, rule) if pair[0] in allowed][: case.k]
                assert found.scores[query] == pytest.approx([score for _, score in truth], abs=1e-4), case


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rule", RULES)
def test_hubs_of_changed_trees_are_nodes_like_others(monkeypatch: pytest.MonkeyPatch, rule: str, strategy: str) -> None:
    for case in cases(6)[:12]:
        plain = case.find(case.layered, strategy, rule)
        with monkeypatch.context() as patch:
            patch.setattr("retgen.docids.allowed.HUB", 3)
            patch.setattr("retgen.docids.gather.HUB", 3)
            same(case.find(case.layered, strategy, rule), plain, case)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rule", RULES)
def test_without_documents_nothing_is_found(rule: str, strategy: str) -> None:
    tree = LayeredTree(PrefixTree.build([[5, EOS], [6, EOS]], eos_token_id=EOS), removed=np.array([0, 1]))
    found = search(HashRows(2, VOCAB), tree, start_token_id=START, num_beams=3, k=3, strategy=strategy, rule=rule)
    assert [len(documents) for documents in found.documents] == [0, 0]
