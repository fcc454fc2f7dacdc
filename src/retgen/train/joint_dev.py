"""What joint fine-tuning measures on dev questions: the fused order's success, and how far the two models are apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from retgen.evaluate import evaluate_run
from retgen.models.query_generator import QueryGenerator
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.rerank.joint import JointReranker
from retgen.rerank.query_likelihood import QueryLikelihood
from retgen.train.candidates import LabelledCandidates
from retgen.train.joint_loss import symmetric_kl
from retgen.types import DocumentSource, Run

SUCCESS = ("Success@1", "Success@5", "Success@10")


@dataclass(frozen=True, slots=True)
class JointDev:
    """Dev questions with all of their candidates.

    Args:
        candidates: in the order of the first stage. Questions without a relevant candidate count as failures.
        documents: the candidates' corpus.
        generator_weight: λ of the fused order.
    """

    candidates: Sequence[LabelledCandidates]
    documents: DocumentSource
    generator_weight: float = 0.5

    def measure(self, reader: CrossEncoder, writer: QueryGenerator) -> dict[str, float]:
        """Success@1, @5 and @10 of the fused order, 0 to 1; ``score``, their mean; ``kl``, nats, ≥ 0.

        ``kl`` is the symmetric KL divergence of the two models over a question's candidates: the mean over questions.
        """
        run = self.run(reader, writer)
        qrels = {
            question.query.id: dict(zip(question.passages, question.labels, strict=True))
            for question in self.candidates
        }
        success: Mapping[str, float] = evaluate_run(run, qrels, SUCCESS, query_ids=list(qrels)).means
        return {**success, "score": sum(success.values()) / len(success), "kl": mean_divergence(run)}

    def run(self, reader: CrossEncoder, writer: QueryGenerator) -> Run:
        """The fused order of every question's candidates, with both models' scores as components."""
        first = Run(
            [question.query.id for question in self.candidates],
            [question.passages for question in self.candidates],
            [[-float(rank) for rank in range(len(question))] for question in self.candidates],
        )
        with evaluation_mode(reader.model, writer.model):
            both = JointReranker(reader, QueryLikelihood(writer), self.generator_weight)
            return both.rerank([question.query for question in self.candidates], first, self.documents)


def mean_divergence(run: Run, first: str = "cross_encoder", second: str = "generator") -> float:
    """The mean of `symmetric_kl` of two components over a run's questions with candidates, in nats; 0 without any."""
    each = []
    for query_id in run.query_ids:
        if run.doc_ids(query_id):
            one, other = (torch.from_numpy(run.scores(query_id, name).copy())[None] for name in (first, second))
            each.append(float(symmetric_kl(one, other, torch.ones_like(one, dtype=torch.bool))))
    return sum(each) / len(each) if each else 0.0


@contextmanager
def evaluation_mode(*models: nn.Module) -> Iterator[None]:
    """Within it the models drop nothing out; afterwards every part is in the mode it was in."""
    modes = [(part, part.training) for model in models for part in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
