"""What moved and why: the numbers add up, and the pictures can be drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from retgen.errors import MissingExtraError, UsageError
from retgen.evaluate import save_figure
from retgen.rerank import pictures
from retgen.rerank.candidates import CandidateReranker
from retgen.rerank.joint import JointReranker
from retgen.rerank.moves import Moves, explain_moves, short_title
from retgen.rerank.tuning import tune, tune_weights
from retgen.types import Document, Query, Run
from tests.conformance import CORPUS, QUERIES, first_run
from tests.rerank.test_tuning import collection
from tests.rerank.wordy import Brevity, WordOverlap


def moved(query: int = 2, *, k: int = 10, reranker: object = None) -> tuple[Moves, Run, Run]:
    chosen = reranker or JointReranker(WordOverlap(), Brevity(), 0.25)
    assert isinstance(chosen, JointReranker | CandidateReranker)
    before = first_run()
    after = chosen.rerank(QUERIES, before, CORPUS)
    return explain_moves(QUERIES[query], before, after, CORPUS, chosen, k=k), before, after


def test_ranks_are_those_of_the_two_runs() -> None:
    moves, before, after = moved()
    assert [move.doc_id for move in moves.moves] == after.doc_ids("river")
    for move in moves.moves:
        assert before.doc_ids("river")[move.before - 1] == move.doc_id
        assert after.doc_ids("river")[move.after - 1] == move.doc_id
        assert move.climbed == move.before - move.after
    assert moves.candidates == len(before.doc_ids("river"))


def test_shares_sum_to_the_joint_score_and_pulls_to_nothing() -> None:
    moves, _, after = moved()
    for move, hit in zip(moves.moves, after["river"], strict=True):
        assert sum(move.shares.values()) == pytest.approx(hit.score, abs=1e-12)
        assert dict(move.scores) == dict(hit.components)
    for name in moves.weights:
        assert sum(move.pulls[name] for move in moves.moves) == pytest.approx(0, abs=1e-12)
    pulls = [sum(move.pulls.values()) for move in moves.moves]
    assert pulls == sorted(pulls, reverse=True)


def test_each_part_s_own_rank() -> None:
    moves, _, _ = moved()
    for name, part in (("overlap", WordOverlap()), ("brevity", Brevity())):
        alone = part.rerank(QUERIES, first_run(), CORPUS).doc_ids("river")
        assert {move.doc_id: move.ranks[name] for move in moves.moves} == {
            doc_id: rank for rank, doc_id in enumerate(alone, start=1)
        }


def test_the_best_before_stay_in_sight_when_they_fall() -> None:
    documents = {f"d{n}": Document(f"d{n}", "word " * (20 - n)) for n in range(20)}
    run = Run(["q"], [list(documents)], [[float(-n) for n in range(20)]])
    query, part = Query("q", "word"), Brevity()
    moves = explain_moves(query, run, part.rerank([query], run, documents), documents, part, k=3)
    assert [(move.before, move.after) for move in moves.moves] == [(20, 1), (19, 2), (18, 3), (3, 18), (2, 19), (1, 20)]
    assert moves.candidates == 20
    assert moves.weights == {"brevity": 1.0}


def test_tokens_come_from_the_part_that_offers_them() -> None:
    moves, _, _ = moved()
    assert moves.tokens_are_the_query_s
    assert [token for token, _ in moves.moves[0].tokens] == ["Which", "sea", "does", "the", "Nile", "flow", "into?"]
    plain, _, _ = moved(reranker=WordOverlap())
    assert all(move.tokens == () for move in plain.moves)
    assert not plain.tokens_are_the_query_s


def test_as_json() -> None:
    moves, _, _ = moved()
    value = json.loads(json.dumps(moves.moves[0].to_json()))
    assert value["rank_after"] == 1
    assert value["pulls"].keys() == {"overlap", "brevity"}
    assert value["tokens"][0].keys() == {"token", "score"}


def test_progress_counts_the_passages() -> None:
    seen: list[tuple[int, int]] = []
    before, part = first_run(), WordOverlap()
    after = part.rerank(QUERIES, before, CORPUS)
    explain_moves(QUERIES[0], before, after, CORPUS, part, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_cannot_be_explained() -> None:
    before, part = first_run(), WordOverlap()
    after = part.rerank(QUERIES, before, CORPUS)
    with pytest.raises(UsageError, match="no query 'x'"):
        explain_moves(Query("x", "?"), before, after, CORPUS, part)
    with pytest.raises(UsageError, match="different candidates"):
        explain_moves(QUERIES[0], before, after.top(2), CORPUS, part)
    with pytest.raises(UsageError, match="no component 'brevity'"):
        explain_moves(QUERIES[0], before, after, CORPUS, Brevity())
    with pytest.raises(UsageError, match="k must be"):
        explain_moves(QUERIES[0], before, after, CORPUS, part, k=0)


def test_titles_are_short() -> None:
    assert short_title(Document("a", "text", "A title")) == "A title"
    assert short_title(Document("a", "  two \n lines ")) == "two lines"
    assert short_title(Document("a", "")) == "a"
    assert len(short_title(Document("a", "word " * 50))) == 60


@pytest.mark.parametrize("reranker", [None, WordOverlap(), Brevity()])
def test_the_picture_is_drawn(reranker: object, tmp_path: Path) -> None:
    moves, _, _ = moved(reranker=reranker)
    figure = pictures.moves_picture(moves)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert len(panels) == (2 if isinstance(reranker, WordOverlap) else 3)
    assert len(panels[0].lines) == len(moves.moves)
    assert save_figure(figure, tmp_path / "moves.svg").stat().st_size > 1000


def test_passages_words_are_written_where_tokens_are_not_the_query_s(tmp_path: Path) -> None:
    class Words(WordOverlap):
        def explain(self, query: Query, document: Document) -> object:
            from retgen.types import Explanation

            words = document.contents.split()
            return Explanation(query.id, document.id, {}, tuple((word, 1.0 / (n + 1)) for n, word in enumerate(words)))

    moves, _, _ = moved(reranker=Words())
    assert not moves.tokens_are_the_query_s
    figure = pictures.moves_picture(moves)
    texts = [text.get_text() for text in figure.axes[-1].texts]
    assert any("Everest" in text for text in texts)
    save_figure(figure, tmp_path / "words.svg")


def test_dollar_signs_are_no_mathematics(tmp_path: Path) -> None:
    documents = {"a": Document("a", "x", "Costs $5 and $\\frac{ more"), "b": Document("b", "y", "$")}
    query, run, part = Query("q", "how much is $5 and $6_{?"), Run(["q"], [["a", "b"]], [[2.0, 1.0]]), Brevity()
    moves = explain_moves(query, run, part.rerank([query], run, documents), documents, part)
    save_figure(pictures.moves_picture(moves), tmp_path / "moves.svg")


def test_a_query_without_candidates_has_no_picture() -> None:
    query, run, part = Query("q", "?"), Run(["q"], [[]], [[]]), Brevity()
    moves = explain_moves(query, run, part.rerank([query], run, {}), {}, part)
    assert moves.moves == ()
    with pytest.raises(UsageError, match="no candidates to draw"):
        pictures.moves_picture(moves)


def test_the_curve_is_drawn_with_its_best_point(tmp_path: Path) -> None:
    run, qrels = collection()
    tuning = tune(run, qrels)
    figure = pictures.tuning_curve(tuning, title="dev")
    curve = figure.axes[0].lines[0]
    np.testing.assert_allclose(np.column_stack([curve.get_xdata(), curve.get_ydata()]), tuning.curve)
    save_figure(figure, tmp_path / "curve.svg")
    three = tune_weights(run, qrels, ["bm25", "cross_encoder", "generator"], step=0.5)
    with pytest.raises(UsageError, match="of two components, not of 3"):
        pictures.tuning_curve(three)


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    run, qrels = collection()
    tuning = tune(run, qrels)
    monkeypatch.setattr(pictures.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"retgen\[plots\]"):
        pictures.tuning_curve(tuning)
