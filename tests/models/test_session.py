"""UniGen's session: row by row equals teacher-forced equals the network itself, and searches as exhaustive scoring."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.scoring import score_docids
from retgen.docids.search import search
from retgen.docids.session import DecoderSession, ScoringSession
from retgen.errors import UsageError
from retgen.models.outputs import TASKS, Task
from retgen.models.session import UniGenSession
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.docids.naive import random_docids
from tests.models.builders import END, EOS, START, VARIANTS, VOCAB, docid_in, inputs, tiny_model


@pytest.fixture(params=VARIANTS, scope="module")
def model(request: pytest.FixtureRequest) -> UniGenForRetrievalAndAnswering:
    return tiny_model(request.param)


def opened(
    model: UniGenForRetrievalAndAnswering, task: Task = "retrieval", batch: int = 3
) -> tuple[UniGenSession, Tensor]:
    ids, mask = inputs(batch=batch)
    with torch.inference_mode():
        return UniGenSession(model, model.encode(ids, mask), task), ids


def copied_rows(ids: Tensor, rng: np.random.Generator, rows: int) -> Tensor:
    """Decoder inputs (batch, rows, 5): docids of the input where there are enough blocks, else words at random."""
    drawn = torch.from_numpy(rng.integers(5, VOCAB, size=(len(ids), rows, 5)))
    drawn[..., 0] = START
    for query, source in enumerate(ids.tolist()):
        for row in range(min(rows, source.count(END))):
            docid = docid_in(source, row)[:-1]
            drawn[query, row, 1 : 1 + len(docid)] = torch.tensor(docid)
    return drawn


def test_satisfies_the_protocols(model: UniGenForRetrievalAndAnswering) -> None:
    session, _ = opened(model)
    assert isinstance(session, DecoderSession)
    assert isinstance(session, ScoringSession)


@pytest.mark.parametrize("task", TASKS)
def test_steps_and_reorders_equal_whole_rows(model: UniGenForRetrievalAndAnswering, task: Task) -> None:
    rng = np.random.default_rng(1)
    session, ids = opened(model, task)
    target = copied_rows(ids, rng, 4)
    rows = torch.zeros((3, 1, 0), dtype=torch.int64)
    for place, width in enumerate((1, 4, 4, 2, 3)):
        if place:
            parents = torch.from_numpy(rng.integers(0, rows.shape[1], size=(3, width)))
            session.reorder(parents)
            rows = rows.gather(1, parents[..., None].expand(-1, -1, place))
        rows = torch.cat([rows, target[:, :width, place : place + 1]], dim=2)
        logits = session.step(rows[..., -1])
        assert logits.dtype == torch.float32
        assert torch.allclose(logits, session.score(rows)[..., -1, :], atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_scores_equal_the_networks_own(model: UniGenForRetrievalAndAnswering, task: Task) -> None:
    session, ids = opened(model, task)
    rows = copied_rows(ids, np.random.default_rng(2), 3)
    labels = torch.cat([rows[..., 1:], torch.full_like(rows[..., :1], EOS)], dim=2)
    labels[0, 1, 3:] = -100
    labels[2, 2] = -100
    scored = session.score(rows).log_softmax(dim=-1).gather(3, labels.clamp(min=0)[..., None]).squeeze(3)
    scored = scored.masked_fill(labels < 0, 0.0)
    given = session.target_log_probabilities(labels, max_bytes=4 * 3 * 5 * VOCAB)  # one row at a time
    for row in range(3):
        with torch.no_grad():
            expected = model.target_log_probabilities(task, session.encoded, labels[:, row])
        assert torch.allclose(given[:, row], expected, atol=1e-4)
        assert torch.allclose(scored[:, row], expected, atol=1e-4)


def test_a_mixture_is_a_distribution() -> None:
    session, ids = opened(tiny_model("t5, copying"))
    logits = session.score(copied_rows(ids, np.random.default_rng(3), 2))
    assert torch.allclose(logits.exp().sum(dim=-1), torch.ones(3, 2, 5), atol=1e-5)


def test_search_finds_what_exhaustive_scoring_ranks_first(model: UniGenForRetrievalAndAnswering) -> None:
    session, ids = opened(model)
    rng = np.random.default_rng(4)
    docids = random_docids(rng, 12, vocab=VOCAB)
    docids += [docid_in(row, 0) for row in ids.tolist()]
    tree = PrefixTree.build(docids, eos_token_id=EOS)
    hits = search(session, tree, start_token_id=START, num_beams=tree.num_leaves, k=len(docids))
    for query in range(3):
        totals = []
        for docid in docids:
            with torch.no_grad():
                encoded = model.encode(*(part[query : query + 1] for part in inputs()))
                totals.append(float(model.target_log_probabilities("retrieval", encoded, torch.tensor([docid])).sum()))
        found = dict(zip(hits.documents[query].tolist(), hits.scores[query].tolist(), strict=True))
        assert sorted(found) == list(range(len(docids)))
        assert [found[number] for number in range(len(docids))] == pytest.approx(totals, abs=2e-4)
        ranked = [totals[number] for number in hits.documents[query]]
        assert ranked == sorted(ranked, reverse=True) or np.all(np.diff(ranked) < 2e-4)


def test_candidates_get_the_scores_of_a_search(model: UniGenForRetrievalAndAnswering) -> None:
    session, _ = opened(model)
    docids = random_docids(np.random.default_rng(5), 8, vocab=VOCAB)
    longest = max(map(len, docids))
    candidates = torch.tensor([[[*docid, *[-100] * (longest - len(docid))] for docid in docids]] * 3)
    scores = score_docids(session, candidates, start_token_id=START)
    assert torch.allclose(session.target_log_probabilities(candidates).sum(dim=2), scores, atol=1e-4)


def test_a_query_alone_scores_as_in_a_block(model: UniGenForRetrievalAndAnswering) -> None:
    session, ids = opened(model)
    rows = copied_rows(ids, np.random.default_rng(6), 2)
    together = session.score(rows)
    for query in range(3):
        length = int(inputs()[1][query].sum())
        with torch.inference_mode():
            encoded = model.encode(*(part[query : query + 1, :length] for part in inputs()))
        alone = UniGenSession(model, encoded, "retrieval").score(rows[query : query + 1])
        assert torch.allclose(alone[0], together[query], atol=1e-4)


def test_scores_of_bf16_weights_can_be_told_apart() -> None:
    for variant in ("t5", "t5, copying", "bert, copying"):
        model = tiny_model(variant).to(torch.bfloat16)
        session, _ = opened(model)
        logits = session.step(torch.full((3, 1), START))
        assert logits.dtype == torch.float32
        assert not torch.equal(logits, logits.bfloat16().float())
        assert len(logits.unique()) > 100


def test_wrong_use_is_an_error() -> None:
    model = tiny_model()
    session, _ = opened(model)
    with pytest.raises(UsageError, match="1 rows for each of 3 queries"):
        session.step(torch.zeros((3, 2), dtype=torch.int64))
    with pytest.raises(UsageError, match=r"\(3, m, length\)"):
        session.score(torch.zeros((2, 1, 2), dtype=torch.int64))
    with pytest.raises(UsageError, match="unknown task 'rank'"):
        UniGenSession(model, session.encoded, "rank")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="training mode"):
        UniGenSession(tiny_model().train(), session.encoded, "answer")
