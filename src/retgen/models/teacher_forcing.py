"""UniGen's network with given targets: how likely it writes them, and the joint loss of a batch (Eqs. 5–7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from retgen.models.copying import mix_targets
from retgen.models.layout import prefix_matches
from retgen.models.losses import span_loss, symmetric_divergence, target_loss
from retgen.models.outputs import IGNORED, Encoded, Task, UniGenOutput
from retgen.models.prefix_head import docid_outputs

if TYPE_CHECKING:
    from retgen.models.unigen import UniGenForRetrievalAndAnswering


def read_targets(
    model: UniGenForRetrievalAndAnswering, task: Task, encoded: Encoded, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Targets, each token read behind those before it.

    Args:
        model: the network.
        task: whose decoder writes them.
        encoded: the inputs.
        labels: (B, T) int64, -100 where there is no target.

    Returns:
        Their fp32 log-probabilities (B, T), 0 where there is no target; and the logits (n, V) of everything that could
        be written at the n places of a target, without what a copy head adds.
    """
    known = labels != IGNORED
    targets = labels.masked_fill(~known, model.pad_token_id)
    start = torch.full_like(targets[:, :1], model.start_token_id)
    read = model.shared(torch.cat((start, targets[:, :-1]), dim=1))
    states = [
        decoder(
            inputs_embeds=read,
            encoder_hidden_states=encoded.states[task],
            encoder_attention_mask=encoded.attention_mask,
            use_cache=False,
        ).last_hidden_state
        for decoder in model.decoders(task)
    ]
    wanted, outputs = targets[known], None
    if task == "retrieval" and model.config.docid_outputs_only:
        # The logits of all other tokens are -inf: they need not be computed.
        outputs = torch.tensor(docid_outputs(model.config), device=targets.device)
        wanted = torch.searchsorted(outputs, wanted)
    logits = model.logits(task, torch.cat(states, dim=-1)[known], tokens=outputs)
    scored = torch.zeros(targets.shape, device=targets.device)
    scored[known] = logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - logits.logsumexp(dim=-1)
    head, layout = model.copy_head(task), encoded.layout
    if head is not None and layout is not None:
        matches = prefix_matches(layout, targets[:, :-1], docids=task == "retrieval")
        attention = head.log_attention(states[0], head.keys(encoded.states[task], layout), layout, matches)
        same = layout.copy_ids.unsqueeze(1) == targets.unsqueeze(2)
        scored = mix_targets(scored, attention, head.log_gate(states[0], layout), same & layout.copyable.unsqueeze(1))
    return scored * known, logits


def joint_loss(
    model: UniGenForRetrievalAndAnswering,
    encoded: Encoded,
    *,
    docid_labels: Tensor | None,
    answer_labels: Tensor | None,
    answer_spans: Tensor | None,
    consistency_weight: Tensor | float,
) -> UniGenOutput:
    """L = λ·L_retr + (1 − λ)·L_qa, and what the options add; see `UniGenForRetrievalAndAnswering.forward`."""
    config = model.config
    answers = model.answer_decoder is not None
    weights = {
        "retrieval": config.retrieval_loss_weight if answers else 1.0,
        "answer": 1 - config.retrieval_loss_weight,
        "span": config.span_loss_weight,
        "consistency": consistency_weight,
    }
    parts: dict[str, Tensor | None] = dict.fromkeys(weights)
    if docid_labels is not None and bool((docid_labels != IGNORED).any()):
        parts["retrieval"], parts["consistency"] = _retrieval_losses(
            model, encoded, docid_labels, twice=bool(consistency_weight)
        )
    if answers and answer_labels is not None and bool((answer_labels != IGNORED).any()):
        log_probabilities = model.target_log_probabilities("answer", encoded, answer_labels)
        parts["answer"] = target_loss(log_probabilities, answer_labels != IGNORED, config.loss_reduction)
    if model.span_head is not None and answer_spans is not None and bool((answer_spans >= 0).any()):
        parts["span"] = span_loss(model.span_log_probabilities(encoded), answer_spans)
    present = [weights[name] * part for name, part in parts.items() if part is not None]
    # A batch without any target still needs a loss that reaches the weights, so that distributed training goes on.
    loss = sum(present[1:], present[0]) if present else encoded.states["answer"].sum() * 0.0
    return UniGenOutput(loss=loss, **{f"{name}_loss": part for name, part in parts.items()})


def _retrieval_losses(
    model: UniGenForRetrievalAndAnswering, encoded: Encoded, labels: Tensor, *, twice: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss of docids; and where they are read twice, how far the two readings are apart."""
    known, reduction = labels != IGNORED, model.config.loss_reduction
    scored, logits = read_targets(model, "retrieval", encoded, labels)
    if not twice:
        return target_loss(scored, known, reduction), None
    again, others = read_targets(model, "retrieval", model.encode(encoded.input_ids, encoded.attention_mask), labels)
    divergence = torch.zeros(labels.shape, device=labels.device)
    divergence[known] = symmetric_divergence(logits.log_softmax(dim=-1), others.log_softmax(dim=-1))
    return target_loss((scored + again) / 2, known, reduction), target_loss(-divergence, known, reduction)
