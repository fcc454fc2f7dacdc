"""A network that only finds documents, and R-Drop's consistency loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from retgen.errors import UsageError
from retgen.models.losses import symmetric_divergence
from retgen.models.session import UniGenSession
from tests.models.builders import EOS, T5_SHAPE, inputs, tiny_model

LABELS = torch.tensor([[21, 25, 33, EOS], [21, 39, EOS, -100], [30, EOS, -100, -100]])
DROPS: dict[str, Any] = {"decoder": {**T5_SHAPE, "dropout_rate": 0.3}, "encoder": {**T5_SHAPE, "dropout_rate": 0.3}}


def test_without_answers_there_is_one_decoder_and_one_loss() -> None:
    model, whole = tiny_model("t5", answers=False), tiny_model("t5")
    sizes = [sum(weight.numel() for weight in each.parameters()) for each in (whole, model)]
    assert whole.answer_decoder is not None
    assert sizes[0] - sizes[1] == sum(weight.numel() for weight in whole.answer_decoder.parameters())
    with torch.no_grad():
        output = model(*inputs(), docid_labels=LABELS, answer_labels=LABELS)
    assert output.answer_loss is None
    # λ has nothing to weigh it against.
    assert float(output.loss) == float(output.retrieval_loss)
    with pytest.raises(UsageError, match="writes no answers"):
        UniGenSession(model, model.encode(*inputs()), "answer")


def test_two_encoders_are_one_where_there_are_no_answers() -> None:
    assert tiny_model("t5", answers=False, share_encoder=False).answer_encoder is None


def test_the_divergence_is_the_mean_of_both_kls() -> None:
    one, other = torch.randn(4, 7).log_softmax(dim=1), torch.randn(4, 7).log_softmax(dim=1)
    found = symmetric_divergence(one, other)
    kl = torch.nn.functional.kl_div
    expected = (
        kl(one, other, reduction="none", log_target=True) + kl(other, one, reduction="none", log_target=True)
    ) / 2
    assert torch.allclose(found, expected.sum(dim=1), atol=1e-6)
    assert float(symmetric_divergence(one, one).abs().max()) == 0.0
    assert float(found.min()) > 0.0


@pytest.mark.parametrize("variant", ["t5", "prefix head"])
def test_the_loss_is_that_of_two_readings_and_how_far_they_are_apart(variant: str) -> None:
    model = tiny_model(variant, **DROPS)
    with torch.no_grad():
        without = model(*inputs(), docid_labels=LABELS, consistency_weight=0.5)
        # Nothing is dropped in evaluation mode: both readings agree.
        assert float(without.consistency_loss) == pytest.approx(0.0, abs=1e-5)
        model.train()
        torch.manual_seed(0)
        output = model(*inputs(), docid_labels=LABELS, consistency_weight=0.5)
        assert float(output.consistency_loss) > 0.0
        expected = model.config.retrieval_loss_weight * output.retrieval_loss + 0.5 * output.consistency_loss
        assert float(output.loss) == pytest.approx(float(expected), rel=1e-5)
        assert model(*inputs(), docid_labels=LABELS).consistency_loss is None


def test_readings_with_other_dropout_are_drawn_together() -> None:
    def apart_after_training(weight: float) -> float:
        model = tiny_model("t5", noise=0.1, **DROPS).train()
        torch.manual_seed(0)
        steps = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(50):
            steps.zero_grad()
            model(*inputs(), docid_labels=LABELS, consistency_weight=weight).loss.backward()
            steps.step()
        with torch.no_grad():
            found = [model(*inputs(), docid_labels=LABELS, consistency_weight=1.0).consistency_loss for _ in range(16)]
        return float(torch.stack(found).mean())

    assert apart_after_training(4.0) < 0.85 * apart_after_training(0.0)


def test_its_weight_does_not_grow_with_the_batch() -> None:
    """NCI's public code sums over the batch."""
    model = tiny_model("t5", **DROPS).train()
    ids, mask = inputs()

    def mean(times: int) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            found = [
                model(ids.repeat(times, 1), mask.repeat(times, 1), docid_labels=LABELS.repeat(times, 1),
                      consistency_weight=1.0).consistency_loss
                for _ in range(24 // times)
            ]  # fmt: skip
        return float(torch.stack(found).mean())

    assert mean(8) == pytest.approx(mean(1), rel=0.35)
