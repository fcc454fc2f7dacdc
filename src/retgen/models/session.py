"""UniGen as a session of the constrained search: one task's decoder over a block of encoded inputs, copy head included.

Satisfies `retgen.docids.session.RowSession`, and with equally many rows for every query `DecoderSession` and
`ScoringSession`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from retgen.docids.session import RowOutputs
from retgen.errors import UsageError
from retgen.models.copy_outputs import CopyOutputs, CopySource, following, whole_matches
from retgen.models.copying import mix_targets
from retgen.models.outputs import IGNORED, TASKS, Encoded, Task
from retgen.models.row_decoder import JoinedDecoders, RowDecoder
from retgen.models.row_outputs import ProjectedOutputs
from retgen.models.unigen import UniGenForRetrievalAndAnswering

if TYPE_CHECKING:
    from transformers.models.t5.modeling_t5 import T5Stack


class UniGenSession:
    """A block of inputs being decoded by one of UniGen's decoders.

    What `step` and `score` return are fp32 logits of the vocabulary where the model has no copy head. Where it has one,
    they are the log-probabilities of the mixture of copying and writing, which are logits too: their log-softmax is
    themselves. Either way the output projection and what follows run in fp32, whatever the weights' type.

    Args:
        model: in evaluation mode.
        encoded: what `model.encode` gave; both tasks' sessions may be opened on it.
        task: ``"retrieval"`` writes docids, ``"answer"`` answers.

    Raises:
        UsageError: the model is in training mode, or there is no such task.
    """

    def __init__(self, model: UniGenForRetrievalAndAnswering, encoded: Encoded, task: Task) -> None:
        if task not in TASKS:
            raise UsageError(f"unknown task {task!r}", mend=f"Give one of {', '.join(TASKS)}")
        if model.training:
            raise UsageError("the model is in training mode: dropout would make the search random", mend="Call .eval()")
        self.model, self.encoded, self.task = model, encoded, task
        self.batch_size = int(encoded.input_ids.shape[0])
        self.vocab_size = model.lm_head.out_features
        self._device = encoded.input_ids.device
        self._fp32 = model.shared.weight.dtype == torch.float32
        with torch.inference_mode():
            # Converted once: for bf16 weights this copies the whole matrix.
            self._output_weight = model.lm_head.weight.detach().float()
            self._open(model.decoders(task), encoded.states[task])

    def _open(self, stacks: Sequence[T5Stack], states: Tensor) -> None:
        self._dtype = states.dtype
        rows = [RowDecoder(stack, states, self.encoded.attention_mask) for stack in stacks]
        self._decoder: RowDecoder | JoinedDecoders = rows[0] if len(rows) == 1 else JoinedDecoders(rows)
        head, layout = self.model.copy_head(self.task), self.encoded.layout
        self._source = None
        if head is not None and layout is not None:
            if states.dtype == torch.float32 and not self._fp32:
                head = copy.deepcopy(head).to(torch.float32)
            self._source = CopySource(head, layout, head.keys(states, layout), docids=self.task == "retrieval")
        self._matches: Tensor | None = None
        self._parents = torch.arange(self.batch_size)
        self._width = 1

    @torch.inference_mode()
    def in_fp32(self) -> UniGenSession:
        """A session over the same states whose decoder and heads are fp32 copies; itself where they are already."""
        if self._fp32:
            return self
        finer = copy.copy(self)
        decoders: Any = copy.deepcopy(self.model.decoders(self.task))
        finer._open([decoder.float() for decoder in decoders], self.encoded.states[self.task].float())
        finer._fp32 = True
        return finer

    @torch.inference_mode()
    def step_rows(
        self, parents: Tensor, tokens: Tensor, tails: tuple[Tensor, Tensor] | None = None
    ) -> tuple[RowOutputs, RowOutputs | None]:
        """One more token of rows (n,), and the rest (r, T) of rows (r,) that end; see `RowSession`."""
        parents, tokens = parents.to(self._device), tokens.to(self._device)
        before = self._matches
        rest = rest_embeddings = None
        if tails is not None:
            rest = (tails[0].to(self._device), tails[1].to(self._device).clamp(min=0))
            rest_embeddings = (rest[0], self._embed(rest[1]))
        queries = self._decoder.queries
        hidden, tail_hidden = self._decoder.step_rows(parents, self._embed(tokens), rest_embeddings)
        if self._source is None:
            ended = None if tail_hidden is None else ProjectedOutputs(tail_hidden, self._project, self.vocab_size)
            return ProjectedOutputs(hidden, self._project, self.vocab_size), ended
        ended_rows = None
        if rest is not None and tail_hidden is not None:
            matches = whole_matches(self._source, before, rest[0], queries[rest[0]], rest[1])
            ended_rows = CopyOutputs(
                tail_hidden, queries[rest[0]], matches, self._source, self._project, self.vocab_size
            )
        self._matches = following(self._source, before, parents, queries[parents], tokens)
        return CopyOutputs(
            hidden, queries[parents], self._matches, self._source, self._project, self.vocab_size
        ), ended_rows

    @torch.inference_mode()
    def read_rows(self, queries: Tensor, tokens: Tensor) -> RowOutputs:
        """Whole texts (r, T) of queries (r,), the start token first; see `RowSession`."""
        queries, tokens = queries.to(self._device), tokens.to(self._device).clamp(min=0)
        hidden = self._decoder.read(queries, self._embed(tokens))
        if self._source is None:
            return ProjectedOutputs(hidden, self._project, self.vocab_size)
        matches = whole_matches(self._source, None, queries, queries, tokens)
        return CopyOutputs(hidden, queries, matches, self._source, self._project, self.vocab_size)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits of the next token: tokens (batch, m) int64 → (batch, m, vocab_size) fp32."""
        if tokens.shape != (self.batch_size, self._width):
            raise UsageError(
                f"this session stands at {self._width} rows for each of {self.batch_size} queries; "
                f"got tokens of shape {tuple(tokens.shape)}"
            )
        outputs, _ = self.step_rows(self._parents, tokens.reshape(-1))
        self._parents = torch.arange(tokens.numel())
        return outputs.logits(self._parents).reshape(*tokens.shape, self.vocab_size)

    def reorder(self, parents: Tensor) -> None:
        """Continue, in each new row, the row of the same query that ``parents`` (batch, m') names."""
        offsets = torch.arange(self.batch_size).unsqueeze(1) * self._width
        self._parents = self._parents[(offsets + parents.cpu()).reshape(-1)]
        self._width = int(parents.shape[1])

    @torch.inference_mode()
    def score(self, tokens: Tensor) -> Tensor:
        """Logits at every position: decoder inputs (batch, m, T) int64 → (batch, m, T, vocab_size) fp32.

        Independent of `step`: the rows being decoded stay as they are. Where only the log-probabilities of given
        targets are wanted, `target_log_probabilities` does without a vocabulary for every position.
        """
        tokens = self._checked(tokens)
        outputs = self.read_rows(self._queries_of(tokens), tokens.flatten(0, 1))
        return outputs.logits(torch.arange(tokens.numel())).reshape(*tokens.shape, self.vocab_size)

    @torch.inference_mode()
    def target_log_probabilities(self, labels: Tensor, *, max_bytes: int = 256 * 2**20) -> Tensor:
        """Log-probability of every token of given targets.

        Args:
            labels: (batch, m, T) int64, each target with its EOS, -100 (or any negative id) behind its end.
            max_bytes: the targets are scored a few at a time, so that the logits stay below this size.

        Returns:
            (batch, m, T) fp32 on the session's device; 0 where a label is negative.
        """
        labels = self._checked(labels)
        rows = max(1, max_bytes // max(1, 4 * self.batch_size * labels.shape[2] * self.vocab_size))
        return torch.cat([self._targets(block) for block in torch.split(labels, rows, dim=1)], dim=1)

    def _targets(self, labels: Tensor) -> Tensor:
        known = labels >= 0
        labels = labels.masked_fill(~known, IGNORED)
        targets = labels.masked_fill(~known, self.model.pad_token_id)
        read = torch.cat((torch.full_like(targets[..., :1], self.model.start_token_id), targets[..., :-1]), dim=2)
        queries = self._queries_of(labels)
        hidden = self._decoder.read(queries, self._embed(read.flatten(0, 1))).view(*labels.shape, -1)
        logits = self._project(hidden[known])
        scored = torch.zeros(targets.shape, device=self._device)
        scored[known] = logits.gather(1, targets[known].unsqueeze(1)).squeeze(1) - logits.logsumexp(dim=-1)
        if self._source is not None:
            source, flat, wanted = self._source, hidden.flatten(1, 2), targets.flatten(1, 2)
            matches = whole_matches(source, None, queries, queries, read.flatten(0, 1)).view(*wanted.shape, -1)
            attention = source.head.log_attention(flat, source.keys, source.layout, matches)
            copied = source.layout.copy_ids.unsqueeze(1) == wanted.unsqueeze(2)
            same = copied & source.layout.copyable.unsqueeze(1)
            gates = source.head.log_gate(flat, source.layout)
            scored = mix_targets(scored.flatten(1, 2), attention, gates, same).view(targets.shape)
        return scored * known

    def _project(self, hidden: Tensor, tokens: Tensor | slice | None = None) -> Tensor:
        """(…, V) logits for states (…, d), or (…, t) of some tokens."""
        return self.model.logits(self.task, hidden, self._output_weight, tokens)

    def _embed(self, tokens: Tensor) -> Tensor:
        embeddings: Tensor = self.model.shared(tokens)
        return embeddings.to(self._dtype)

    def _queries_of(self, tokens: Tensor) -> Tensor:
        """The query of each row of a rectangle (batch, m, T)."""
        return torch.arange(self.batch_size, device=self._device).repeat_interleave(tokens.shape[1])

    def _checked(self, tokens: Tensor) -> Tensor:
        if tokens.dim() != 3 or tokens.shape[0] != self.batch_size or 0 in tokens.shape:
            raise UsageError(f"tokens to score must be ({self.batch_size}, m, length), not {tuple(tokens.shape)}")
        return tokens.to(self._device)
