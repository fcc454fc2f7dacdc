"""A cross-encoder and a query generator as one module, whose forward gives their joint loss.

One module, so that one backward pass, one optimiser and one wrapper for several devices serve both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from retgen.errors import UsageError
from retgen.models.cross_encoder_sources import relevance
from retgen.models.first_token import first_token_only
from retgen.models.target_likelihood import target_log_likelihoods
from retgen.train.joint_batches import IGNORED
from retgen.train.joint_loss import by_question, generation_loss, joint_loss, mean_log_likelihoods

_PAIR = "pair_"
_NOT_READ = ("pair_passage", "pair_question")


class JointModel(nn.Module):
    """Both models of JPR; forward takes a batch of `retgen.train.joint_batches.JointCollator`.

    Args:
        cross_encoder: a sequence classifier with one output, its logit, or with two (`relevance`).
        generator: any encoder-decoder that writes questions.
        alpha: weight of the matching loss. With 0 the generator reads gold passages only.
        objective: of the cross-encoder.
        pairs_at_once: pairs whose activations are kept at once; 0 keeps all.

    Raises:
        UsageError: the models are of other kinds.
    """

    def __init__(
        self,
        cross_encoder: PreTrainedModel,
        generator: PreTrainedModel,
        *,
        alpha: float,
        objective: str = "binary",
        pairs_at_once: int = 0,
    ) -> None:
        super().__init__()
        outputs = cross_encoder.config.num_labels
        if outputs not in (1, 2):
            raise UsageError(
                f"a cross-encoder has one output, or two; this {type(cross_encoder).__name__} has {outputs}",
                mend="Load it with retgen.models.cross_encoder_sources.load_cross_encoder",
            )
        if not getattr(generator.config, "is_encoder_decoder", False):
            raise UsageError(
                f"a {type(generator).__name__} is no encoder-decoder", mend="Give one, such as T5 or BART, as generator"
            )
        self.cross_encoder = cross_encoder
        self.generator = generator
        self.alpha = alpha
        self.objective = objective
        self.pairs_at_once = pairs_at_once

    def train(self, mode: bool = True) -> JointModel:
        """Training or evaluation mode; an encoder of the generator without a trained weight drops nothing out."""
        super().train(mode)
        encoder = _encoder(self.generator)
        if not _is_trained(encoder):
            encoder.train(False)
        return self

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """``loss`` and its parts ``retrieval``, ``generation`` and ``matching`` (absent at α = 0), scalars in fp32."""
        mask, labels = batch["candidate_mask"], batch["relevance"]
        gold = labels[mask] > 0
        matched = self.alpha > 0
        chosen = torch.ones_like(gold) if matched else gold
        tokens = self.token_log_probabilities(batch, chosen)
        written = batch["question_ids"] != IGNORED
        of_gold = batch["pair_question"][gold]
        loss = joint_loss(
            by_question(self.logits(batch), mask),
            labels,
            mask,
            by_question(mean_log_likelihoods(tokens, written[batch["pair_question"]]), mask) if matched else None,
            generation_loss(tokens[gold] if matched else tokens, written[of_gold]),
            alpha=self.alpha,
            objective=self.objective,
        )
        parts = {"loss": loss.total, "retrieval": loss.retrieval, "generation": loss.generation}
        return {**parts, "matching": loss.matching} if loss.matching is not None else parts

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """The cross-encoder's logits (P,), in fp32."""
        inputs = {
            name.removeprefix(_PAIR): values
            for name, values in batch.items()
            if name.startswith(_PAIR) and name not in _NOT_READ
        }
        names = list(inputs)

        def score(*columns: Tensor) -> Tensor:
            # Within, as a part's second forward pass comes later.
            with first_token_only(self.cross_encoder):
                return relevance(self.cross_encoder(**dict(zip(names, columns, strict=True))).logits)

        return in_parts(score, list(inputs.values()), self.pairs_at_once)

    def token_log_probabilities(self, batch: dict[str, Tensor], chosen: Tensor) -> Tensor:
        """log p(token | passage, tokens before it) of the chosen (P,) pairs' questions: (chosen pairs, T), in fp32."""
        return query_log_likelihoods(
            self.generator,
            batch["passage_ids"],
            batch["passage_mask"],
            batch["question_ids"],
            batch["pair_passage"][chosen],
            batch["pair_question"][chosen],
            rows_at_once=self.pairs_at_once,
        )


def query_log_likelihoods(
    model: PreTrainedModel,
    passage_ids: Tensor,
    passage_mask: Tensor,
    question_ids: Tensor,
    pair_passage: Tensor,
    pair_question: Tensor,
    *,
    rows_at_once: int = 0,
) -> Tensor:
    """Token log-likelihoods of questions under passages, with gradients; each passage is encoded once.

    Args:
        model: any encoder-decoder of transformers, or one that gives ``target_log_probabilities`` itself. Nothing is
            kept for a backward pass through an encoder without a trained weight.
        passage_ids: (U, L), what the encoder reads.
        passage_mask: (U, L).
        question_ids: (Q, T), what the decoder is to write; `IGNORED` where there is no token.
        pair_passage: (P,), a row of ``passage_ids`` for each pair.
        pair_question: (P,), a row of ``question_ids`` for each pair.
        rows_at_once: passages, and pairs, whose activations are kept for the backward pass at once; 0 keeps all.

    Returns:
        (P, T) in fp32, ≤ 0; 0 where there is no token.
    """
    if not len(pair_passage):
        return question_ids.new_zeros((0, question_ids.shape[1]), dtype=torch.float32)
    used, rows = cast(Any, pair_passage).unique(return_inverse=True)
    ids, mask = passage_ids[used], passage_mask[used]
    encoder = _encoder(model)
    with torch.set_grad_enabled(torch.is_grad_enabled() and _is_trained(encoder)):
        states = in_parts(
            lambda ids, mask: encoder(input_ids=ids, attention_mask=mask).last_hidden_state, [ids, mask], rows_at_once
        )

    def score(row: Tensor, question: Tensor) -> Tensor:
        outputs = BaseModelOutput(last_hidden_state=states[row])
        return target_log_likelihoods(model, outputs, mask[row], question_ids[question], source_ids=ids[row])

    return in_parts(score, [rows, pair_question], rows_at_once)


def _encoder(model: PreTrainedModel) -> nn.Module:
    return cast(nn.Module, model.get_encoder())


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def in_parts(compute: Callable[..., Tensor], columns: list[Tensor], rows_at_once: int) -> Tensor:
    """``compute`` over rows, some at a time: in training each part's activations are made anew for its backward pass.

    Args:
        compute: takes as many tensors as there are columns, and gives a row for each of theirs.
        columns: tensors of as many rows.
        rows_at_once: 0 computes all rows at once, and keeps their activations.
    """
    rows = len(columns[0])
    if not rows_at_once or rows <= rows_at_once:
        return compute(*columns)
    parts = []
    for start in range(0, rows, rows_at_once):
        part = [column[start : start + rows_at_once] for column in columns]
        if torch.is_grad_enabled():
            parts.append(cast(Tensor, checkpoint(compute, *part, use_reentrant=False)))
        else:
            parts.append(compute(*part))
    return torch.cat(parts)
