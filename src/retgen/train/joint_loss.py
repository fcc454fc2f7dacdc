"""The losses of joint fine-tuning (JPR, §2.2), on scores alone: pure functions of tensors, no model and no tokenizer.

Throughout, Q is questions, C the most candidates of one of them, P question-passage pairs, T the tokens of a question;
a mask is True where there is a candidate or a token; what it hides, NaN included, decides neither value nor gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from retgen.errors import UsageError

OBJECTIVES = ("binary", "ranking")


@dataclass(frozen=True, slots=True)
class JointLoss:
    """The three losses and their sum, scalars in fp32.

    Args:
        total: L = L_retrieval + L_generation + α · L_match.
        retrieval: of the cross-encoder, ≥ 0.
        generation: of the generator, nats a token, ≥ 0.
        matching: symmetric KL divergence, nats, mean over questions, ≥ 0; None where it was not computed.
    """

    total: Tensor
    retrieval: Tensor
    generation: Tensor
    matching: Tensor | None


def joint_loss(
    logits: Tensor,
    labels: Tensor,
    mask: Tensor,
    log_likelihoods: Tensor | None,
    generation: Tensor,
    *,
    alpha: float,
    objective: str = "binary",
) -> JointLoss:
    """L = L_retrieval + L_generation + α · L_match of one batch of questions.

    With ``alpha`` 0 the matching loss is measured but not trained: not even zeros of it reach the gradients.

    Args:
        logits: (Q, C), the cross-encoder's.
        labels: (Q, C), 1 for a relevant passage, else 0.
        mask: (Q, C).
        log_likelihoods: (Q, C), the generator's mean token log-likelihoods of the question under each passage; None
            leaves the matching loss out.
        generation: scalar, of `generation_loss`: its passages need not be the candidates.
        alpha: weight of the matching loss, ≥ 0.
        objective: of the cross-encoder: ``binary`` (the paper's) or ``ranking``.

    Raises:
        UsageError: α is above 0, and there are no log-likelihoods to match.

    Reference:
        "Joint Passage Re-ranking", section 2.2.
    """
    relevance = binary_loss if objective == "binary" else ranking_loss
    retrieval = relevance(logits, labels, mask)
    total = retrieval + generation
    if log_likelihoods is None:
        if alpha > 0:
            raise UsageError("the matching loss needs the generator's log-likelihood of every candidate")
        return JointLoss(total, retrieval, generation, None)
    with torch.set_grad_enabled(torch.is_grad_enabled() and alpha > 0):
        matching = matching_loss(logits, log_likelihoods, mask)
    if alpha > 0:
        total = total + alpha * matching
    return JointLoss(total, retrieval, generation, matching)


def binary_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Binary noise-contrastive loss: is this passage relevant to its question? Mean over pairs.

    Args:
        logits: (Q, C), the cross-encoder's.
        labels: (Q, C), 1 for a relevant passage, else 0.
        mask: (Q, C).

    Returns:
        Scalar in fp32, ≥ 0; 0 without a pair.
    """
    scores = logits.float().masked_fill(~mask, 0.0)
    each = functional.binary_cross_entropy_with_logits(scores, labels.float(), reduction="none")
    return each.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def ranking_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Ranking noise-contrastive loss: −log p(passage | question) of a question's relevant passages, their mean.

    The softmax is over all of the question's candidates. Questions without a relevant candidate do not count.

    Args:
        logits: (Q, C), the cross-encoder's.
        labels: (Q, C), 1 for a relevant passage, else 0.
        mask: (Q, C).

    Returns:
        Scalar in fp32, ≥ 0; 0 without a relevant passage.

    Reference:
        Ma and Collins, Noise contrastive estimation and negative sampling for conditional models, EMNLP 2018.
    """
    relevant = ((labels > 0) & mask).float()
    number = relevant.sum(dim=-1)
    log_probabilities = masked_log_softmax(logits, mask)
    each = -(relevant * log_probabilities).sum(dim=-1) / number.clamp(min=1)
    return each.sum() / (number > 0).sum().clamp(min=1)


def generation_loss(token_log_probabilities: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of questions under their gold passages: the mean over all tokens of the batch.

    Args:
        token_log_probabilities: (P, T), of the question's tokens, ≤ 0.
        mask: (P, T).

    Returns:
        Scalar in fp32, ≥ 0; 0 without a token. The same as a Hugging Face model's loss with labels.
    """
    return -token_log_probabilities.float().masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def mean_log_likelihoods(token_log_probabilities: Tensor, mask: Tensor) -> Tensor:
    """log p(question | passage) a token.

    Args:
        token_log_probabilities: (P, T), ≤ 0.
        mask: (P, T).

    Returns:
        (P,) in fp32, ≤ 0; 0 for a question without tokens.
    """
    return token_log_probabilities.float().masked_fill(~mask, 0.0).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)


def matching_loss(logits: Tensor, log_likelihoods: Tensor, mask: Tensor) -> Tensor:
    """L_match: the mean of `symmetric_kl` over questions with a candidate; scalar in fp32, 0 without one.

    Args:
        logits: (Q, C), the cross-encoder's.
        log_likelihoods: (Q, C), the generator's, mean a token.
        mask: (Q, C).
    """
    return symmetric_kl(logits, log_likelihoods, mask).sum() / mask.any(dim=-1).sum().clamp(min=1)


def symmetric_kl(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """KL(p‖q) + KL(q‖p), p and q the softmaxes of two models' scores over one question's candidates.

    It is Σ (p − q)(log p − log q), whose every term is ≥ 0 in floating point too: no cancellation makes it negative.

    Args:
        first: (Q, C) scores of one model.
        second: (Q, C) scores of the other; gradients flow to both.
        mask: (Q, C).

    Returns:
        (Q,) in fp32, nats, ≥ 0; 0 just where the scores differ by one number for all of a question's candidates, so
        also with one candidate or none.

    Example:
        >>> scores = torch.tensor([[2.0, 0.0, 1.0]])
        >>> candidates = torch.tensor([[True, True, True]])
        >>> float(symmetric_kl(scores, scores + 1, candidates))
        0.0
        >>> round(float(symmetric_kl(scores, -scores, candidates)), 3)
        2.301
    """
    p, q = masked_log_softmax(first, mask), masked_log_softmax(second, mask)
    terms = (p.exp() - q.exp()) * (p - q)
    return terms.masked_fill(~mask, 0.0).sum(dim=-1)


def masked_log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over each question's candidates, in fp32; 0 where there is no candidate.

    Args:
        scores: (Q, C).
        mask: (Q, C).

    Returns:
        (Q, C), ≤ 0.
    """
    # The least finite number, not −∞: a question without candidates would get NaN, and pass it to every gradient.
    lowest = torch.finfo(torch.float32).min
    return functional.log_softmax(scores.float().masked_fill(~mask, lowest), dim=-1).masked_fill(~mask, 0.0)


def by_question(values: Tensor, mask: Tensor) -> Tensor:
    """Values of pairs, question after question, as one row a question.

    Args:
        values: (P,), P the number of True in ``mask``.
        mask: (Q, C).

    Returns:
        (Q, C), 0 where there is no candidate; gradients flow back to ``values``.
    """
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
