"""What joint fine-tuning measures on dev questions: the fused order's success, and how far the two models are apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from retgen.evaluate import evaluate_run
from retgen.rerank.joint import joint_scores
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint_batches import JointCollator
from retgen.train.joint_loss import symmetric_kl
from retgen.train.joint_model import JointModel
from retgen.types import Run

SUCCESS = ("Success@1", "Success@5", "Success@10")
_PARTS = ("cross_encoder", "generator")
_QUESTIONS_AT_ONCE = 4
_PAIRS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class JointDev:
    """Dev questions with all of their candidates.

    Args:
        candidates: questions without a relevant candidate, or without any, count as failures.
        collator: makes batches of them.
        generator_weight: λ of the fused order.
    """

    candidates: Sequence[LabelledCandidates]
    collator: JointCollator
    generator_weight: float = 0.5

    def measure(self, model: JointModel) -> dict[str, float]:
        """Success@1, @5 and @10 of the fused order, 0 to 1; ``score``, their mean; ``kl``, nats, ≥ 0.

        ``kl`` is the symmetric KL divergence of the two models over a question's candidates: the mean over questions.
        """
        run = self.run(model)
        qrels = {
            question.query.id: dict(zip(question.passages, question.labels, strict=True))
            for question in self.candidates
        }
        success: Mapping[str, float] = evaluate_run(run, qrels, SUCCESS, query_ids=list(qrels)).means
        return {**success, "score": sum(success.values()) / len(success), "kl": mean_divergence(run)}

    def run(self, model: JointModel) -> Run:
        """The fused order of every question's candidates, with both models' scores as components."""
        found: dict[str, list[list[float]]] = {name: [] for name in _PARTS}
        with measuring(model):
            for start in range(0, len(self.candidates), _QUESTIONS_AT_ONCE):
                questions = self.candidates[start : start + _QUESTIONS_AT_ONCE]
                for name, rows in self._scores(model, questions).items():
                    found[name] += rows
        return joint_scores(
            Run(
                [question.query.id for question in self.candidates],
                [question.passages for question in self.candidates],
                [-torch.arange(len(question)).double().numpy() for question in self.candidates],
                components=found,
            ),
            first=_PARTS[0],
            second=_PARTS[1],
            generator_weight=self.generator_weight,
        )

    def _scores(self, model: JointModel, questions: Sequence[LabelledCandidates]) -> dict[str, list[list[float]]]:
        lengths = [len(question) for question in questions]
        if not any(lengths):
            return {name: [[] for _ in questions] for name in _PARTS}
        device = next(model.parameters()).device
        batch = {name: values.to(device) for name, values in self.collator(questions).items()}
        return {
            name: [row.tolist() for row in values.split(lengths)]
            for name, values in zip(_PARTS, model.scores(batch), strict=True)
        }


def mean_divergence(run: Run) -> float:
    """The mean of `symmetric_kl` of a run's two components over its questions with candidates, in nats; 0 without."""
    each = []
    for query_id in run.query_ids:
        if run.doc_ids(query_id):
            first, second = (torch.from_numpy(run.scores(query_id, name).copy())[None] for name in _PARTS)
            each.append(float(symmetric_kl(first, second, torch.ones_like(first, dtype=torch.bool))))
    return sum(each) / len(each) if each else 0.0


@contextmanager
def measuring(model: JointModel) -> Iterator[None]:
    """Within it no dropout, no gradients, and a bounded number of pairs at once; afterwards all is as it was."""
    modes: dict[nn.Module, bool] = {module: module.training for module in model.modules()}
    at_once = model.pairs_at_once
    model.eval()
    model.pairs_at_once = at_once or _PAIRS_AT_ONCE
    try:
        with torch.no_grad():
            yield
    finally:
        model.pairs_at_once = at_once
        for module, mode in modes.items():
            module.training = mode
