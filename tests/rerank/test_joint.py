"""Joint scoring (Eq. 3): limits, invariances, ties, and what the parts may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.errors import ArtefactError, MismatchError, UnknownDocumentError, UsageError
from retgen.lexical import BM25
from retgen.rerank.candidates import CandidateReranker, Candidates, Progress
from retgen.rerank.joint import JointReranker, joint_scores
from retgen.types import Document, DocumentSource, FloatArray, Query, Run
from tests.conformance import CORPUS, QUERIES, RERANKER_CHECKS, first_run, name_of
from tests.rerank.wordy import Brevity, WordOverlap


class Given(CandidateReranker):
    """Scores that a test has written down, by document id."""

    def __init__(self, component: str, scores: dict[str, float], added: float = 0.0) -> None:
        self.component = component
        self.scores = scores
        self.added = added

    def score_pairs(self, candidates: Candidates, progress: Progress | None = None) -> FloatArray:
        return np.array([self.scores[candidates.passages[p].id] + self.added for _, p in candidates.pairs])


class BM25Order:
    """A re-ranker of the plainest kind: no base class, no component, scores of a BM25 over what it is given."""

    def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
        scores: list[list[float]] = []
        for query in queries:
            shown = [documents[doc_id] for doc_id in run.doc_ids(query.id)]
            found = BM25.build([*shown, Document("", "")]).search([query], 100).to_dict()[query.id]
            scores.append([found.get(document.id, 0.0) for document in shown])
        ids = [query.id for query in queries]
        made = Run(ids, [run.doc_ids(i) for i in ids], scores, fingerprint=run.fingerprint)
        return made if k is None else made.top(k)


@pytest.mark.parametrize("check", RERANKER_CHECKS, ids=name_of)
def test_conforms(check: Callable[..., None]) -> None:
    check(lambda: JointReranker(WordOverlap(), Brevity(), 0.3))


_VALUES = st.floats(-30, 30, width=32).map(lambda x: round(x, 3))
_PARTS = st.integers(1, 8).flatmap(
    lambda n: st.tuples(st.lists(_VALUES, min_size=n, max_size=n), st.lists(_VALUES, min_size=n, max_size=n))
)
QUERY = Query("q", "anything")
properties = settings(deadline=None, max_examples=50)


def over(scores: Sequence[float]) -> tuple[dict[str, float], Run, dict[str, Document]]:
    ids = [f"d{n}" for n in range(len(scores))]
    documents = {doc_id: Document(doc_id, "text") for doc_id in ids}
    return dict(zip(ids, scores, strict=True)), Run(["q"], [ids], [[0.0] * len(ids)], presorted=True), documents


@properties
@given(_PARTS)
def test_the_ends_give_the_parts_orders(parts: tuple[list[float], list[float]]) -> None:
    one, run, documents = over(parts[0])
    two, _, _ = over(parts[1])
    first, second = Given("x", one), Given("y", two)
    for weight, part in ((0.0, first), (1.0, second)):
        joint = JointReranker(first, second, weight).rerank([QUERY], run, documents)
        assert joint.doc_ids("q") == part.rerank([QUERY], run, documents).doc_ids("q")


@properties
@given(_PARTS, st.sampled_from([0.0, 0.25, 0.5, 0.85, 1.0]))
def test_raw_scores_give_the_order_of_log_softmaxes(parts: tuple[list[float], list[float]], weight: float) -> None:
    one, run, documents = over(parts[0])
    two, _, _ = over(parts[1])
    joint = JointReranker(Given("x", one), Given("y", two), weight).rerank([QUERY], run, documents)
    raw = np.array([(1 - weight) * one[doc_id] + weight * two[doc_id] for doc_id in joint.doc_ids("q")])
    assert (np.diff(raw) <= 1e-9).all()
    np.testing.assert_allclose(np.diff(raw), np.diff(joint.scores("q")), atol=1e-9)


@properties
@given(_PARTS, st.floats(-100, 100), st.floats(-100, 100))
def test_a_constant_added_to_a_part_changes_nothing(
    parts: tuple[list[float], list[float]], here: float, there: float
) -> None:
    one, run, documents = over(parts[0])
    two, _, _ = over(parts[1])
    plain = JointReranker(Given("x", one), Given("y", two), 0.4).rerank([QUERY], run, documents)
    moved = JointReranker(Given("x", one, here), Given("y", two, there), 0.4).rerank([QUERY], run, documents)
    assert moved.to_dict()["q"] == pytest.approx(plain.to_dict()["q"], abs=1e-9)


@properties
@given(_PARTS, st.randoms(use_true_random=False))
def test_the_candidates_order_does_not_matter(parts: tuple[list[float], list[float]], random: object) -> None:
    one, run, documents = over(parts[0])
    two, _, _ = over(parts[1])
    ids = run.doc_ids("q")
    random.shuffle(ids)  # type: ignore[attr-defined]
    turned = Run(["q"], [ids], [[0.0] * len(ids)], presorted=True)
    reranker = JointReranker(Given("x", one), Given("y", two), 0.5)
    there = reranker.rerank([QUERY], turned, documents).to_dict()["q"]
    assert there == pytest.approx(reranker.rerank([QUERY], run, documents).to_dict()["q"], abs=1e-12)


@properties
@given(_PARTS, st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.7, 1.0]))
def test_weighing_anew_needs_no_model(parts: tuple[list[float], list[float]], weight: float, other: float) -> None:
    one, run, documents = over(parts[0])
    two, _, _ = over(parts[1])
    first, second = Given("x", one), Given("y", two)
    anew = joint_scores(
        JointReranker(first, second, weight).rerank([QUERY], run, documents),
        first="x",
        second="y",
        generator_weight=other,
    )
    expected = JointReranker(first, second, other).rerank([QUERY], run, documents)
    assert anew.to_dict()["q"] == pytest.approx(expected.to_dict()["q"], abs=1e-9)
    assert set(anew.component_names) == {"x", "y", "joint", "first_stage"}


def test_by_hand() -> None:
    one, run, documents = over([0.0, math.log(3)])
    two, _, _ = over([math.log(4), 0.0])
    found = JointReranker(Given("x", one), Given("y", two), 0.5).rerank([QUERY], run, documents)
    assert found.doc_ids("q") == ["d0", "d1"]
    expected = [0.5 * math.log(1 / 4) + 0.5 * math.log(4 / 5), 0.5 * math.log(3 / 4) + 0.5 * math.log(1 / 5)]
    assert found.scores("q").tolist() == pytest.approx(expected, rel=1e-12)
    assert found.scores("q", "x").tolist() == [0.0, math.log(3)]
    assert found.scores("q", "joint").tolist() == found.scores("q").tolist()


def test_components_ride_along_and_every_query_stays() -> None:
    given_run = first_run()
    found = JointReranker(WordOverlap(), Brevity()).rerank(QUERIES, given_run, CORPUS)
    assert set(found.component_names) == {"first", "overlap", "brevity", "joint"}
    assert found.query_ids == given_run.query_ids
    assert found.doc_ids("nothing") == given_run.doc_ids("nothing")
    before = {hit.doc_id: hit.score for hit in given_run["metal"]}
    assert {hit.doc_id: hit.components["first"] for hit in found["metal"]} == before
    bare = Run(["who"], [["iron", "oxygen"]], [[7.0, 6.0]])
    kept = JointReranker(WordOverlap(), Brevity()).rerank(QUERIES[:1], bare, CORPUS)
    assert {hit.doc_id: hit.components["first_stage"] for hit in kept["who"]} == {"iron": 7.0, "oxygen": 6.0}


def test_one_candidate_has_probability_1_and_none_is_no_error() -> None:
    reranker = JointReranker(WordOverlap(), Brevity())
    run = Run(["who", "metal"], [["iron"], []], [[1.0], []])
    found = reranker.rerank(QUERIES[:2], run, CORPUS)
    assert found.to_dict() == {"who": {"iron": 0.0}, "metal": {}}
    empty = reranker.rerank(QUERIES[:1], Run(["who"], [[]], [[]]), CORPUS)
    assert empty.to_dict() == {"who": {}}


def test_identical_passages_tie_and_keep_the_run_s_order() -> None:
    copies = {name: Document(name, "Iron melts at 1538 degrees.") for name in ("c", "a", "b")}
    copies["z"] = Document("z", "Nothing of the kind, in a somewhat longer text than all the others.")
    run = Run(["q"], [["c", "z", "a", "b"]], [[4.0, 3.0, 2.0, 1.0]])
    found = JointReranker(WordOverlap(), Brevity()).rerank([Query("q", "iron melts")], run, copies)
    assert found.doc_ids("q") == ["c", "a", "b", "z"]
    assert len(set(found.scores("q").tolist())) == 2


def test_parts_may_be_anything_that_scores_every_candidate() -> None:
    given_run = first_run()
    found = JointReranker(BM25Order(), Brevity(), 0.2).rerank(QUERIES, given_run, CORPUS)
    assert {"bm25order", "brevity", "joint"} <= set(found.component_names)
    assert found.doc_ids("who")[0] == "oxygen"
    alone = BM25Order().rerank(QUERIES, given_run, CORPUS)
    zero = JointReranker(BM25Order(), Brevity(), 0.0).rerank(QUERIES, given_run, CORPUS)
    assert {i: zero.doc_ids(i) for i in zero} == {i: alone.doc_ids(i) for i in alone}


def test_unigen_s_retrieval_decoder_may_stand_in_the_cross_encoder_s_place() -> None:
    from tests.generative.test_conformance import fixed

    first, given_run = fixed("free", False), first_run()
    alone = first.rerank(QUERIES, given_run, CORPUS)
    found = JointReranker(first, Brevity(), 0.0).rerank(QUERIES, given_run, CORPUS)
    assert {i: found.doc_ids(i) for i in found} == {i: alone.doc_ids(i) for i in alone}
    scores = {hit.doc_id: hit.components["unigen"] for hit in found["river"]}
    assert scores == pytest.approx(alone.to_dict()["river"])
    both = JointReranker(first, Brevity(), 0.5)
    assert both.explain(QUERIES[2], CORPUS["nile"]).components["unigen"] == pytest.approx(scores["nile"], abs=1e-4)


def test_a_part_that_leaves_candidates_out_is_named() -> None:
    class Lazy:
        def rerank(self, queries: Sequence[Query], run: Run, documents: DocumentSource, k: int | None = None) -> Run:
            return run.top(1)

    with pytest.raises(UsageError, match="lazy gave no score to 3 of the 4 candidates of query 'who', the first"):
        JointReranker(Lazy(), Brevity()).rerank(QUERIES, first_run(), CORPUS)


@pytest.mark.parametrize("weight", [-0.01, 1.01, math.nan, math.inf])
def test_a_weight_outside_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="λ lies between 0 and 1"):
        JointReranker(WordOverlap(), Brevity(), weight)
    with pytest.raises(UsageError, match="λ lies between 0 and 1"):
        joint_scores(Run([], [], []), generator_weight=weight)


def test_two_parts_of_one_name_are_refused_unless_named() -> None:
    with pytest.raises(UsageError, match="'overlap' and 'overlap'"):
        JointReranker(WordOverlap(), WordOverlap())
    with pytest.raises(UsageError, match="'joint'"):
        JointReranker(JointReranker(WordOverlap(), Brevity()), WordOverlap())
    named = JointReranker(WordOverlap(), WordOverlap(), names=("here", "there"))
    assert {"here", "there"} <= set(named.rerank(QUERIES, first_run(), CORPUS).component_names)
    with pytest.raises(UsageError, match="no method rerank"):
        JointReranker(WordOverlap(), BM25())  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_part_is_named_with_the_candidate(broken: float) -> None:
    one, run, documents = over([1.0, broken])
    two, _, _ = over([1.0, 2.0])
    with pytest.raises(ArtefactError, match="x gave 1 of 2 candidates a score that is not a number, first 'd1'"):
        JointReranker(Given("x", one), Given("y", two)).rerank([QUERY], run, documents)


def test_what_does_not_belong_together_is_refused() -> None:
    reranker = JointReranker(WordOverlap(), Brevity())
    with pytest.raises(UnknownDocumentError, match="gone"):
        reranker.rerank(QUERIES[:1], Run(["who"], [["gone"]], [[1.0]]), CORPUS)
    with pytest.raises(UsageError, match="lacks 1 of the 6 queries, the first 'long'"):
        reranker.rerank(QUERIES, first_run().select([q.id for q in QUERIES[:5]]), CORPUS)

    class Other(dict[str, Document]):
        fingerprint = "another"

    with pytest.raises(MismatchError, match="another corpus"):
        reranker.rerank(QUERIES, first_run(), Other(CORPUS))


def test_progress_counts_the_pairs_of_both_parts() -> None:
    seen: list[tuple[int, int]] = []
    JointReranker(BM25Order(), Brevity()).rerank(
        QUERIES, first_run(), CORPUS, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(15, 30), (30, 30)]


def test_an_explanation_has_both_scores_and_the_second_part_s_tokens() -> None:
    reranker = JointReranker(WordOverlap(), Brevity(), 0.25)
    explanation = reranker.explain(QUERIES[0], CORPUS["oxygen"])
    run = reranker.rerank(QUERIES, first_run(), CORPUS)
    hit = next(hit for hit in run["who"] if hit.doc_id == "oxygen")
    for name in ("overlap", "brevity"):
        assert explanation.components[name] == hit.components[name]
    assert explanation.components["joint"] == 0.75 * hit.components["overlap"] + 0.25 * hit.components["brevity"]
    assert explanation.components["length"] > 0
    assert [token for token, _ in explanation.tokens] == ["Who", "discovered", "oxygen?"]


def test_explanations_differ_from_the_run_by_one_constant() -> None:
    reranker = JointReranker(BM25Order(), Brevity(), 0.5, names=("words", "length"))
    run = JointReranker(WordOverlap(), Brevity(), 0.5).rerank(QUERIES, first_run(), CORPUS)
    found = JointReranker(WordOverlap(), Brevity(), 0.5)
    shifts = [
        hit.score - found.explain(QUERIES[2], CORPUS[hit.doc_id]).components["joint"] for hit in run[QUERIES[2].id]
    ]
    assert max(shifts) - min(shifts) < 1e-12
    assert reranker.explain(QUERIES[0], CORPUS["iron"]).components["length"] < 0


def test_stands_in_a_pipeline_and_binds_its_parts() -> None:
    class Bound(WordOverlap):
        def __init__(self, source: object = None) -> None:
            super().__init__("bound")
            self.source = source

        def bind(self, source: object) -> Bound:
            return Bound(source)

    pipeline = (BM25() >> JointReranker(Bound(), Brevity(), 0.1)).over(CORPUS)
    assert pipeline(["Which metal melts at 1064 degrees?"], k=3).run.doc_ids("q1")[0] == "gold"
    (reranker,) = pipeline.rerankers
    assert isinstance(reranker, JointReranker)
    assert isinstance(reranker.first, Bound)
    assert reranker.first.source is CORPUS
    assert pipeline.explain("gold?", "gold")[-1].components.keys() >= {"bound", "brevity", "joint"}
