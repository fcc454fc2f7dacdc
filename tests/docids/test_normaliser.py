"""Log-probabilities of given tokens are those of a softmax over all logits, though never are all there at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.gather import _model_scores, log_probs_at
from retgen.docids.normaliser import target_log_probs
from retgen.docids.session import RowSession, TargetOutputs
from retgen.errors import RetgenError
from retgen.models.session import UniGenSession
from retgen.models.t5_session import T5Session
from tests.docids.naive import padded_inputs, tiny_t5
from tests.models.builders import VARIANTS, inputs, tiny_model


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retgen.docids.normaliser._SLICE", 7)
    monkeypatch.setattr("retgen.docids.gather._TARGETS", 5)
    monkeypatch.setattr("retgen.docids.gather._LISTED", 2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 5), vocab=st.integers(1, 30), spread=st.sampled_from([0.1, 9.0]))
def test_slices_are_the_whole(seed: int, rows: int, vocab: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocab, generator=generator) * spread
    logits[torch.rand(rows, vocab, generator=generator) < 0.2] = float("-inf")
    logits[:, 0] = 1.0  # something can be written
    targets = torch.randint(vocab, (rows,), generator=generator)
    found = target_log_probs(lambda part: logits[:, part].clone(), vocab, targets)
    expected = logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    lists = torch.randint(vocab, (rows, 3), generator=generator)
    found = target_log_probs(lambda part: logits[:, part].clone(), vocab, lists)
    assert torch.allclose(found, logits.log_softmax(dim=1).gather(1, lists), atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    logits = torch.zeros(2, 20)
    logits[1, 13] = bad
    with pytest.raises(RetgenError, match="not finite"):
        target_log_probs(lambda part: logits[:, part].clone(), 20, torch.zeros(2, dtype=torch.int64))


def t5(family: str) -> RowSession:
    model = tiny_t5(0).to(torch.bfloat16) if family == "bf16" else tiny_t5(0, tied=family == "tied")
    return T5Session.encode(model, *padded_inputs(np.random.default_rng(0), 3, 40))


def unigen(variant: str) -> RowSession:
    model, (ids, mask) = tiny_model(variant), inputs(batch=3)
    with torch.inference_mode():
        return UniGenSession(model, model.encode(ids, mask), "retrieval")


@pytest.mark.parametrize(
    "make", [*((t5, family) for family in ("tied", "untied", "bf16")), *((unigen, v) for v in VARIANTS)]
)
def test_outputs_score_targets_as_their_logits_do(make: tuple) -> None:  # type: ignore[type-arg]
    session = make[0](make[1])
    rng = np.random.default_rng(1)
    queries = np.array([0, 0, 1, 1, 1, 2])
    read = torch.from_numpy(rng.integers(3, session.vocab_size, size=(6, 4)))
    outputs = session.read_rows(torch.from_numpy(queries), read)
    assert isinstance(outputs, TargetOutputs)
    for places in (
        np.arange(24),
        rng.integers(0, 24, size=11),
        np.array([20, 3]),
    ):  # of some queries only, in any order
        tokens = rng.integers(0, session.vocab_size, size=len(places))
        everything = outputs.logits(torch.from_numpy(places)).log_softmax(dim=1)
        expected = everything.gather(1, torch.from_numpy(tokens).unsqueeze(1)).squeeze(1)
        found = log_probs_at(outputs, places, tokens, vocab_size=session.vocab_size)
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_few_children_and_many_are_scored_alike() -> None:
    """Rows with few children go without whole rows of logits, those with more do not; the scores are a softmax's."""
    session = t5("tied")
    rng = np.random.default_rng(2)
    outputs = session.read_rows(
        torch.tensor([0, 2]), torch.from_numpy(rng.integers(3, session.vocab_size, size=(2, 4)))
    )
    for counts in ([1, 4, 2, 3, 1], [5, 3], [1, 2]):
        places = rng.integers(0, 8, size=len(counts))
        tokens = np.concatenate([rng.choice(session.vocab_size, size=count, replace=False) for count in counts])
        everything = outputs.logits(torch.from_numpy(places)).log_softmax(dim=1).numpy()
        expected = everything[np.repeat(np.arange(len(counts)), counts), tokens]
        found = _model_scores(outputs, places, tokens, np.array(counts), session.vocab_size)
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
