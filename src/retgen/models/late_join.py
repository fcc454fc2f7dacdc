"""A cross-encoder whose lower layers read query and passage apart: what they make of a passage is made once.

A BERT encoder is cut at a layer. Below it query and passage are two inputs, as a bi-encoder reads them; from it on they
are one sequence. With the lower layers frozen, the states of a passage depend on the passage alone: they are kept, and
each of its queries costs the upper layers only. Trained from a sentence encoder, the lower layers do what they have
learned, and only the upper ones must learn to compare.

To everyone else it is one more sequence-classification model with one logit. Its inputs are BERT's pairs,
``[CLS] query [SEP] passage [SEP]``, with token types 0 and 1, or 2 and 3 for shared tokens
(`retgen.models.match_marks`).

Reference:
    MacAvaney et al., "Efficient Document Re-Ranking for Transformers by Precomputing Term Representations" (PreTTR),
    SIGIR 2020, whose states are compressed besides; Cao et al., "DeFormer", ACL 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from retgen.errors import UsageError
from retgen.models.fingerprint import encoder_fingerprint
from retgen.models.first_token import for_first_token
from retgen.models.match_marks import SIDES
from retgen.models.state_memory import StateMemory

_MARK_SHARE = 0.5
"""Deviation of the fresh marks, as a share of that of the states they are added to: seen at once, drowning nothing."""
_STATES = 0.6
"""Deviation of a BERT layer's output, which a layer norm sets."""


class LateJoinConfig(BertConfig):  # type: ignore[no-untyped-call]
    """A `BertConfig`, and where the cut is.

    Args:
        join_layer: layers that read query and passage apart; 1 up to one less than there are.
        frozen_below: embeddings and these layers keep their weights, run without dropout, and passages' states are
            kept.
        match_marks: inputs have token types 2 and 3.
        first_token_id: what a passage begins with where it is read alone: the tokenizer's [CLS].
    """

    model_type = "retgen_late_join"

    join_layer: int = 1
    frozen_below: bool = True
    match_marks: bool = False
    first_token_id: int = 101


class LateJoinForSequenceClassification(BertPreTrainedModel):  # type: ignore[no-untyped-call]
    """The model. States of frozen lower layers are remembered for ``memory.most_tokens`` tokens, the latest used.

    Raises:
        UsageError: ``join_layer`` leaves no layer above, or none below.
    """

    config: LateJoinConfig
    config_class = LateJoinConfig

    def __init__(self, config: LateJoinConfig) -> None:
        super().__init__(config)
        if not 1 <= config.join_layer < config.num_hidden_layers:
            raise UsageError(
                f"query and passage cannot be joined after layer {config.join_layer} of {config.num_hidden_layers}",
                mend=f"Choose 1 to {config.num_hidden_layers - 1}",
            )
        self.bert = BertModel(config)
        self.sides = nn.Embedding(2 * SIDES, config.hidden_size)
        share = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if share is None else share)
        self.classifier = nn.Linear(config.hidden_size, int(config.num_labels or 1))
        self.memory = StateMemory()
        self.post_init()  # type: ignore[no-untyped-call]
        self._freeze()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if module is self.sides:
            nn.init.normal_(self.sides.weight, std=_MARK_SHARE * _STATES)

    @property
    def lower(self) -> list[nn.Module]:
        """What reads query and passage apart."""
        encoder: Any = self.bert.encoder
        return [self.bert.embeddings, *encoder.layer[: self.config.join_layer]]

    def train(self, mode: bool = True) -> LateJoinForSequenceClassification:
        """Training or evaluation mode; what is frozen never drops anything out."""
        super().train(mode)
        if self.config.frozen_below:
            for part in self.lower:
                part.train(False)
        return self

    def freeze_below(self, frozen: bool = True) -> None:
        """Keep the lower layers' weights from now on, or train them."""
        self.config.frozen_below = frozen
        for part in self.lower:
            part.requires_grad_(not frozen)
        self.memory.clear()
        self.train(self.training)

    def lower_fingerprint(self) -> str:
        """A hash of all that the lower layers' states depend on beside the text: weights, kind, shape and dtype."""
        return encoder_fingerprint(nn.ModuleList(self.lower), self.config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Logits of pairs.

        Args:
            input_ids: (B, L) int64, ``[CLS] query [SEP] passage [SEP]``.
            attention_mask: (B, L), 1 for real tokens.
            token_type_ids: (B, L): 0 or 2 on the query's side, 1 or 3 on the passage's.
            labels: (B,) 0 or 1, for a binary cross-entropy as ``loss``.

        Raises:
            UsageError: no token types, which alone tell the sides apart.
        """
        if token_type_ids is None:
            raise UsageError(
                "query and passage cannot be told apart", mend="Pass token_type_ids, as the tokenizer does"
            )
        real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        queries, passages, types = self._sides_of(input_ids, token_type_ids, real)
        states = self._states([*queries, *passages])
        joined, kinds, mask = _joined(states[: len(queries)], states[len(queries) :], types)
        hidden = joined + self.sides(kinds).to(joined.dtype)
        attended = mask[:, None, None, :]
        encoder: Any = self.bert.encoder
        *middle, last = encoder.layer[self.config.join_layer :]
        for layer in middle:
            hidden = layer(hidden, attended)
        hidden = for_first_token(last, hidden, attended)
        pooler: Any = self.bert.pooler
        logits = self.classifier(self.dropout(pooler(hidden)))
        loss = None
        if labels is not None:
            loss = nn.functional.binary_cross_entropy_with_logits(logits[:, 0].float(), labels.float())
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _freeze(self) -> None:
        if self.config.frozen_below:
            for part in self.lower:
                part.requires_grad_(False)

    def _sides_of(
        self, input_ids: Tensor, token_type_ids: Tensor, real: Tensor
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[list[int]]]:
        """The token ids of both sides of every row, and their types; a passage has its own first token."""
        queries, passages, types = [], [], []
        for ids, kinds, mask in zip(input_ids.tolist(), token_type_ids.tolist(), real.tolist(), strict=True):
            sides: tuple[list[int], list[int]] = ([], [self.config.first_token_id])
            of_sides: tuple[list[int], list[int]] = ([], [1])
            for token, kind, there in zip(ids, kinds, mask, strict=True):
                if there:
                    sides[kind % SIDES].append(token)
                    of_sides[kind % SIDES].append(kind)
            queries.append(tuple(sides[0]))
            passages.append(tuple(sides[1]))
            types.append([*of_sides[0], *of_sides[1]])
        return queries, passages, types

    def _states(self, texts: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """The lower layers' output for each text, (tokens, d); of equal ones, one."""
        weight: Tensor = next(self.bert.embeddings.parameters())
        found: dict[tuple[int, ...], Tensor] = {}
        if self.config.frozen_below:
            found = self.memory.get(texts, weight.device, weight.dtype)
        missing = sorted({text for text in texts if text not in found}, key=len)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen_below):
            for start in range(0, len(missing), _AT_ONCE):
                part = missing[start : start + _AT_ONCE]
                found.update(zip(part, self._read(part), strict=True))
        if self.config.frozen_below:
            self.memory.put({text: found[text] for text in missing})
        return [found[text] for text in texts]

    def _read(self, texts: Sequence[tuple[int, ...]]) -> list[Tensor]:
        device = self.classifier.weight.device
        width = max(map(len, texts))
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=device)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        mask = (torch.arange(width, device=device) < lengths[:, None])[:, None, None, :]
        embeddings, *layers = self.lower
        # What is kept must not depend on whether a training that casts, or a measurement that does not, came first.
        with torch.autocast(
            device.type, enabled=not self.config.frozen_below and torch.is_autocast_enabled(device.type)
        ):
            hidden = embeddings(input_ids=ids)
            for layer in layers:
                hidden = layer(hidden, mask)
        # Copies, so that a kept state does not keep its batch.
        return [row[: len(text)].clone() for row, text in zip(hidden, texts, strict=True)]


_AT_ONCE = 16
"""Texts of similar length that the lower layers read in one batch."""


def _joined(
    queries: Sequence[Tensor], passages: Sequence[Tensor], types: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides as one padded batch: states (B, L, d), token types (B, L), and which positions are real (B, L)."""
    rows = [torch.cat(sides) for sides in zip(queries, passages, strict=True)]
    states = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    device = states.device
    kinds = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in types], batch_first=True).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return states, kinds, torch.arange(states.shape[1], device=device) < lengths[:, None]


AutoConfig.register(LateJoinConfig.model_type, LateJoinConfig, exist_ok=True)
AutoModelForSequenceClassification.register(LateJoinConfig, LateJoinForSequenceClassification, exist_ok=True)
