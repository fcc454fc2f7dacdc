"""An encoder that keeps still gives what it would give anyway, but computes it once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from retgen.models.still_encoder import StillEncoder, still_encoder
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from retgen.train.freezing import frozen
from tests.models.builders import tiny_model


@pytest.fixture
def model() -> Iterator[UniGenForRetrievalAndAnswering]:
    made = tiny_model()
    with frozen([made.encoder, made.shared]):
        yield made


def _batch(lengths: tuple[int, ...] = (7, 3, 5)) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(sum(lengths))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    return torch.randint(5, 40, mask.shape, generator=chance) * mask, mask


def _calls(model: UniGenForRetrievalAndAnswering) -> list[int]:
    rows: list[int] = []
    model.encoder.register_forward_hook(
        lambda module, given, kwargs, out: rows.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    return rows


def test_it_gives_the_states_of_the_encoder(model: UniGenForRetrievalAndAnswering) -> None:
    ids, mask = _batch()
    with torch.no_grad():
        expected = model.encode(ids, mask).states["retrieval"]
    with still_encoder(model):
        found = model.encode(ids, mask)
    assert torch.allclose(found.states["retrieval"][mask.bool()], expected[mask.bool()], atol=1e-5)
    assert found.states["answer"] is found.states["retrieval"]
    assert model.still is None


def test_a_text_is_read_once(model: UniGenForRetrievalAndAnswering) -> None:
    ids, mask = _batch()
    rows = _calls(model)
    with still_encoder(model):
        model.encode(ids, mask)
        model.encode(ids.flip(0), mask.flip(0))
        assert rows == [3]
        model.encode(*_batch((7, 6)))
    assert rows == [3, 2]


def test_what_was_read_ahead_does_not_depend_on_what_is_asked_first(model: UniGenForRetrievalAndAnswering) -> None:
    ids, mask = _batch((7, 3, 5, 2))
    texts = [row[:count] for row, count in zip(ids.tolist(), mask.sum(1).tolist(), strict=True)]
    states = []
    for order in (texts, texts[::-1]):
        still = StillEncoder(model)
        still.read(order)
        states.append(still(ids, mask))
    assert torch.equal(states[0], states[1])


def test_more_than_there_is_room_for_is_computed_when_it_is_asked_for(model: UniGenForRetrievalAndAnswering) -> None:
    ids, mask = _batch()
    still = StillEncoder(model, most_tokens=6)
    rows = _calls(model)
    still.read(row[:count] for row, count in zip(ids.tolist(), mask.sum(1).tolist(), strict=True))
    assert rows == []
    with torch.no_grad():
        expected = model.encode(ids, mask).states["retrieval"][mask.bool()]
    assert torch.allclose(still(ids, mask)[mask.bool()], expected, atol=1e-5)


def test_dropout_stays_out_of_it(model: UniGenForRetrievalAndAnswering) -> None:
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    ids, mask = _batch()
    model.train()
    with still_encoder(model):
        found = model.encode(ids, mask).states["retrieval"]
    assert model.encoder.training
    model.eval()
    with torch.no_grad():
        assert torch.allclose(found[mask.bool()], model.encode(ids, mask).states["retrieval"][mask.bool()], atol=1e-5)


def test_autocasting_around_it_changes_nothing(model: UniGenForRetrievalAndAnswering) -> None:
    ids, mask = _batch()
    rows = _calls(model)
    still = StillEncoder(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = still(ids, mask)
    assert torch.equal(first, StillEncoder(model)(ids, mask))
    # What was computed under it is known outside of it, and the other way round.
    assert torch.equal(still(ids, mask), first)
    assert rows == [3, 3]


@pytest.mark.parametrize("variant", ["t5", "bert, copying", "two encoders"])
def test_an_encoder_that_moves_is_read_anew(variant: str) -> None:
    made = tiny_model(variant)
    if variant != "t5":
        with frozen([made.encoder, made.shared]), still_encoder(made) as still:
            assert still is None
    with still_encoder(made) as still:
        assert still is None
    with frozen([made.encoder]), still_encoder(made) as still:
        assert still is None
