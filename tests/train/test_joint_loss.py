"""The losses of joint fine-tuning: what they are never below, when they are zero, what they ignore, whom they move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration

from retgen.errors import UsageError
from retgen.train.joint_loss import (
    binary_loss,
    by_question,
    generation_loss,
    joint_loss,
    masked_log_softmax,
    matching_loss,
    mean_log_likelihoods,
    ranking_loss,
    symmetric_kl,
)

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 7))
quick = settings(max_examples=60, deadline=None)


def scores(shape: tuple[int, int], largest: float = 50.0) -> st.SearchStrategy[Tensor]:
    values = st.floats(-largest, largest, width=32)
    return arrays.arrays(np.float32, shape, elements=values).map(torch.from_numpy)


@st.composite
def problems(draw: st.DrawFn, largest: float = 50.0) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of two models for the same candidates, and which of them are there."""
    shape = draw(SHAPES)
    mask = torch.from_numpy(draw(arrays.arrays(np.bool_, shape)))
    return draw(scores(shape, largest)), draw(scores(shape, largest)), mask


class TestSymmetricKL:
    @quick
    @given(problems(largest=1e4))
    def test_it_is_never_negative(self, problem: tuple[Tensor, Tensor, Tensor]) -> None:
        divergence = symmetric_kl(*problem)
        assert torch.isfinite(divergence).all()
        assert (divergence >= 0).all()

    @quick
    @given(problems(largest=8.0), st.floats(-20, 20))
    def test_it_is_zero_for_scores_that_agree_up_to_a_constant(
        self, problem: tuple[Tensor, Tensor, Tensor], constant: float
    ) -> None:
        first, _, mask = problem
        assert symmetric_kl(first, first + constant, mask) == pytest.approx(0, abs=1e-4)

    @quick
    @given(problems(largest=4.0))
    def test_it_is_positive_for_all_other_scores(self, problem: tuple[Tensor, Tensor, Tensor]) -> None:
        first, second, mask = problem
        for row in range(len(mask)):
            gaps = (first - second)[row][mask[row]]
            # Neither probability is below e^-8 / 7 here, so a gap of .1 shows in fp32.
            apart = len(gaps) > 1 and float(gaps.max() - gaps.min()) > 0.1
            if apart:
                assert symmetric_kl(first[row : row + 1], second[row : row + 1], mask[row : row + 1]) > 0

    @quick
    @given(problems(largest=8.0), st.floats(-20, 20), st.floats(-20, 20))
    def test_a_constant_a_question_changes_nothing(
        self, problem: tuple[Tensor, Tensor, Tensor], one: float, other: float
    ) -> None:
        first, second, mask = problem
        moved = symmetric_kl(first + one, second + other, mask)
        torch.testing.assert_close(moved, symmetric_kl(first, second, mask), rtol=1e-3, atol=1e-3)

    @quick
    @given(problems(largest=8.0), st.randoms(use_true_random=False))
    def test_order_and_sides_change_nothing(self, problem: tuple[Tensor, Tensor, Tensor], chance: Any) -> None:
        first, second, mask = problem
        order = list(range(mask.shape[1]))
        chance.shuffle(order)
        plain = symmetric_kl(first, second, mask)
        shuffled = symmetric_kl(first[:, order], second[:, order], mask[:, order])
        torch.testing.assert_close(shuffled, plain, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(symmetric_kl(second, first, mask), plain)

    @quick
    @given(problems(largest=8.0))
    def test_it_equals_torch_distributions(self, problem: tuple[Tensor, Tensor, Tensor]) -> None:
        first, second, mask = problem
        for row, divergence in enumerate(symmetric_kl(*problem)):
            kept = mask[row]
            if not kept.any():
                assert divergence == 0
                continue
            p, q = (Categorical(logits=side[row][kept].double()) for side in (first, second))
            expected = kl_divergence(p, q) + kl_divergence(q, p)
            torch.testing.assert_close(divergence.double(), expected, rtol=1e-3, atol=1e-4)

    @quick
    @given(problems(largest=1e4), st.sampled_from([float("nan"), float("inf"), -float("inf"), 3.0]))
    def test_what_is_masked_decides_neither_value_nor_gradient(
        self, problem: tuple[Tensor, Tensor, Tensor], junk: float
    ) -> None:
        first, second, mask = problem
        found = []
        for filler in (0.0, junk):
            sides = [side.masked_fill(~mask, filler).requires_grad_() for side in (first, second)]
            divergence = symmetric_kl(sides[0], sides[1], mask)
            divergence.sum().backward()
            found.append((divergence.detach(), sides[0].grad, sides[1].grad))
        for plain, with_junk in zip(*found, strict=True):
            assert plain is not None
            assert torch.isfinite(plain).all()
            assert torch.equal(plain, with_junk)
        for grad in found[1][1:]:
            assert grad is not None
            assert not grad[~mask].any()

    @quick
    @given(problems(largest=4.0))
    def test_gradients_reach_both_models(self, problem: tuple[Tensor, Tensor, Tensor]) -> None:
        first, second, mask = problem
        gaps = [(first - second)[row][mask[row]] for row in range(len(mask))]
        assume(any(len(gap) > 1 and float(gap.max() - gap.min()) > 0.1 for gap in gaps))
        first.requires_grad_(), second.requires_grad_()
        matching_loss(first, second, mask).backward()
        for side in (first, second):
            assert side.grad is not None
            assert torch.isfinite(side.grad).all()
            assert side.grad.any()
            side.grad = None

    def test_half_precision_is_computed_in_single(self) -> None:
        first, second = torch.randn(2, 5), torch.randn(2, 5)
        mask = torch.ones(2, 5, dtype=torch.bool)
        half = symmetric_kl(first.bfloat16(), second.bfloat16(), mask)
        assert half.dtype == torch.float32
        assert torch.equal(half, symmetric_kl(first.bfloat16().float(), second.bfloat16().float(), mask))

    def test_one_candidate_always_agrees(self) -> None:
        first = torch.tensor([[3.0, 1.0]], requires_grad=True)
        divergence = symmetric_kl(first, torch.tensor([[-5.0, 9.0]]), torch.tensor([[True, False]]))
        divergence.sum().backward()
        assert divergence == 0
        assert first.grad is not None
        assert not first.grad.any()


class TestOtherLosses:
    @quick
    @given(problems(), st.data())
    def test_binary_is_the_mean_over_pairs(self, problem: tuple[Tensor, Tensor, Tensor], data: st.DataObject) -> None:
        logits, _, mask = problem
        labels = torch.from_numpy(data.draw(arrays.arrays(np.int64, tuple(mask.shape), elements=st.integers(0, 1))))
        loss = binary_loss(logits.masked_fill(~mask, float("nan")), labels, mask)
        if not mask.any():
            assert loss == 0
            return
        expected = functional.binary_cross_entropy_with_logits(logits[mask], labels[mask].float())
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)

    @quick
    @given(problems(), st.data())
    def test_ranking_is_the_mean_over_questions(
        self, problem: tuple[Tensor, Tensor, Tensor], data: st.DataObject
    ) -> None:
        logits, _, mask = problem
        labels = torch.from_numpy(data.draw(arrays.arrays(np.int64, tuple(mask.shape), elements=st.integers(0, 1))))
        each = []
        for row in range(len(mask)):
            kept, relevant = logits[row][mask[row]], labels[row][mask[row]].float()
            if relevant.any():
                # Cross-entropy with a target spread evenly over the relevant passages.
                each.append(functional.cross_entropy(kept[None], (relevant / relevant.sum())[None]))
        loss = ranking_loss(logits.masked_fill(~mask, float("inf")), labels, mask)
        torch.testing.assert_close(loss, torch.stack(each).mean() if each else torch.zeros(()), rtol=1e-4, atol=1e-4)

    def test_generation_is_what_transformers_computes(self) -> None:
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, dropout_rate=0.0,
            decoder_start_token_id=0,
        )  # fmt: skip
        model = T5ForConditionalGeneration(config).eval()
        source = torch.randint(2, 30, (3, 5))
        labels = torch.tensor([[5, 6, 7, 1], [8, 1, -100, -100], [9, 4, 1, -100]])
        output = model(input_ids=source, labels=labels)
        mask = labels != -100
        tokens = output.logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        torch.testing.assert_close(generation_loss(tokens, mask), output.loss)
        for row, mean in enumerate(mean_log_likelihoods(tokens, mask)):
            alone = model(input_ids=source[row : row + 1], labels=labels[row : row + 1][:, mask[row]])
            torch.testing.assert_close(mean, -alone.loss, rtol=1e-4, atol=1e-5)

    def test_nothing_at_all_is_zero_and_moves_nothing(self) -> None:
        logits, tokens = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
        nothing = torch.zeros(2, 3, dtype=torch.bool)
        labels = torch.ones(2, 3)
        for objective in ("binary", "ranking"):
            loss = joint_loss(
                logits, labels, nothing, tokens, generation_loss(tokens, nothing), alpha=1.0, objective=objective
            )
            assert loss.total == 0
            loss.total.backward()
        for grad in (logits.grad, tokens.grad):
            assert grad is not None
            assert not grad.any()
        assert not mean_log_likelihoods(tokens, nothing).any()

    @quick
    @given(problems())
    def test_probabilities_of_candidates_sum_to_one(self, problem: tuple[Tensor, Tensor, Tensor]) -> None:
        logits, _, mask = problem
        found = masked_log_softmax(logits, mask)
        assert (found <= 0).all()
        assert not found[~mask].any()
        sums = (found.exp() * mask).sum(-1)[mask.any(-1)]
        torch.testing.assert_close(sums, torch.ones_like(sums))

    @quick
    @given(SHAPES.flatmap(lambda shape: arrays.arrays(np.bool_, shape)))
    def test_rows_of_pairs_and_back(self, found: np.ndarray[Any, Any]) -> None:
        mask = torch.from_numpy(found)
        values = torch.arange(1.0, int(mask.sum()) + 1, requires_grad=True)
        rows = by_question(values, mask)
        assert torch.equal(rows[mask], values)
        assert not rows[~mask].any()
        (rows * 2).sum().backward()
        assert values.grad is not None
        assert torch.equal(values.grad, torch.full_like(values, 2.0))


class TestTheSum:
    @quick
    @given(problems(largest=6.0), st.floats(0, 2))
    def test_it_is_the_sum_of_the_three(self, problem: tuple[Tensor, Tensor, Tensor], alpha: float) -> None:
        logits, likelihoods, mask = problem
        labels = (logits > likelihoods).long()
        generation = torch.tensor(1.25)
        loss = joint_loss(logits, labels, mask, likelihoods, generation, alpha=alpha)
        torch.testing.assert_close(loss.retrieval, binary_loss(logits, labels, mask))
        assert loss.matching is not None
        torch.testing.assert_close(loss.matching, matching_loss(logits, likelihoods, mask))
        torch.testing.assert_close(loss.total, loss.retrieval + generation + alpha * loss.matching)

    @pytest.mark.parametrize("objective", ["binary", "ranking"])
    def test_at_alpha_zero_the_models_do_not_meet(self, objective: str) -> None:
        logits = torch.randn(2, 4, requires_grad=True)
        likelihoods = torch.randn(2, 4, requires_grad=True)
        tokens = torch.randn(3, 5, requires_grad=True)
        labels, mask = torch.eye(2, 4), torch.ones(2, 4, dtype=torch.bool)
        generation = generation_loss(tokens, torch.ones(3, 5, dtype=torch.bool))
        loss = joint_loss(logits, labels, mask, likelihoods, generation, alpha=0.0, objective=objective)
        loss.total.backward()
        assert loss.matching is not None
        assert loss.matching > 0
        left_out = joint_loss(logits, labels, mask, None, generation.detach(), alpha=0.0, objective=objective)
        assert left_out.matching is None
        assert torch.equal(left_out.total, loss.total)
        with pytest.raises(UsageError, match="log-likelihood"):
            joint_loss(logits, labels, mask, None, generation.detach(), alpha=0.1, objective=objective)
        assert likelihoods.grad is None
        alone = logits.detach().clone().requires_grad_()
        (binary_loss if objective == "binary" else ranking_loss)(alone, labels, mask).backward()
        assert logits.grad is not None
        assert alone.grad is not None
        assert torch.equal(logits.grad, alone.grad)
