"""UniGen as a session of the constrained search: one task's decoder over a block of encoded inputs, copy head included.

Satisfies `retgen.docids.session.DecoderSession` and `ScoringSession`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retgen.errors import UsageError
from retgen.models.copying import mix_targets, mix_vocabulary
from retgen.models.layout import next_match, prefix_matches
from retgen.models.outputs import IGNORED, TASKS, Encoded, Task
from retgen.models.row_decoder import RowDecoder
from retgen.models.unigen import UniGenForRetrievalAndAnswering


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
        self._width = 1
        self._matches: Tensor | None = None
        with torch.inference_mode():
            states = encoded.states[task]
            self._decoder = RowDecoder(model.decoder(task), states, encoded.attention_mask)
            self._head = model.copy_head(task)
            # Converted once: for bf16 weights this copies the whole matrix.
            self._output_weight = model.lm_head.weight.detach().float()
            if self._head is not None and encoded.layout is not None:
                self._layout = encoded.layout
                self._keys = self._head.keys(states, self._layout)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Logits of the next token: tokens (batch, m) int64 → (batch, m, vocab_size) fp32."""
        if tokens.shape != (self.batch_size, self._width):
            raise UsageError(
                f"this session stands at {self._width} rows for each of {self.batch_size} queries; "
                f"got tokens of shape {tuple(tokens.shape)}"
            )
        tokens = tokens.to(self._device)
        hidden = self._decoder.step(self.model.shared(tokens))
        if self._head is not None:
            if self._matches is None:  # the start token continues nothing
                first = prefix_matches(self._layout, tokens[:, :0], docids=self.task == "retrieval")
                self._matches = first.expand(-1, self._width, -1)
            else:
                self._matches = next_match(self._layout, self._matches, tokens)
        return self._mixture(hidden, self._matches)

    @torch.inference_mode()
    def reorder(self, parents: Tensor) -> None:
        """Continue, in each new row, the row of the same query that ``parents`` (batch, m') names."""
        parents = parents.to(self._device)
        offsets = torch.arange(self.batch_size, device=self._device).unsqueeze(1) * self._width
        self._decoder.reorder((offsets + parents).reshape(-1))
        if self._matches is not None:
            index = parents.unsqueeze(2).expand(-1, -1, self._matches.shape[2])
            self._matches = self._matches.gather(1, index)
        self._width = int(parents.shape[1])

    @torch.inference_mode()
    def score(self, tokens: Tensor) -> Tensor:
        """Logits at every position: decoder inputs (batch, m, T) int64 → (batch, m, T, vocab_size) fp32.

        Independent of `step`: the rows being decoded stay as they are. Where only the log-probabilities of given
        targets are wanted, `target_log_probabilities` does without a vocabulary for every position.
        """
        tokens = self._checked(tokens)
        hidden = self._decoder.score(self.model.shared(tokens)).flatten(1, 2)
        matches = None if self._head is None else self._whole_matches(tokens[..., 1:])
        return self._mixture(hidden, matches).view(*tokens.shape, self.vocab_size)

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
        start = torch.full_like(targets[..., :1], self.model.start_token_id)
        hidden = self._decoder.score(self.model.shared(torch.cat((start, targets[..., :-1]), dim=2)))
        logits = self.model.vocabulary_logits(hidden[known], self._output_weight)
        scored = torch.zeros(targets.shape, device=self._device)
        scored[known] = logits.gather(1, targets[known].unsqueeze(1)).squeeze(1) - logits.logsumexp(dim=-1)
        if self._head is not None:
            flat, wanted = hidden.flatten(1, 2), targets.flatten(1, 2)
            attention = self._head.log_attention(flat, self._keys, self._layout, self._whole_matches(targets[..., :-1]))
            same = (self._layout.copy_ids.unsqueeze(1) == wanted.unsqueeze(2)) & self._layout.copyable.unsqueeze(1)
            gates = self._head.log_gate(flat, self._layout)
            scored = mix_targets(scored.flatten(1, 2), attention, gates, same).view(targets.shape)
        return scored * known

    def _mixture(self, hidden: Tensor, matches: Tensor | None) -> Tensor:
        """(batch, n, vocab_size) for decoder states (batch, n, d) and matches (batch, n, L)."""
        logits = self.model.vocabulary_logits(hidden, self._output_weight)
        if self._head is None or matches is None:
            return logits
        attention = self._head.log_attention(hidden, self._keys, self._layout, matches)
        gates = self._head.log_gate(hidden, self._layout)
        return mix_vocabulary(logits.log_softmax(dim=-1), attention, gates, self._layout.copy_ids)

    def _whole_matches(self, written: Tensor) -> Tensor:
        """(batch, m · (T + 1), L) for the tokens written (batch, m, T), without the start token."""
        rows = written.shape[1]
        match = prefix_matches(self._layout, written[:, 0, :0], docids=self.task == "retrieval").expand(-1, rows, -1)
        steps = [match]
        for place in range(written.shape[2]):
            match = next_match(self._layout, match, written[..., place])
            steps.append(match)
        return torch.stack(steps, dim=2).flatten(1, 2)

    def _checked(self, tokens: Tensor) -> Tensor:
        if tokens.dim() != 3 or tokens.shape[0] != self.batch_size or 0 in tokens.shape:
            raise UsageError(f"tokens to score must be ({self.batch_size}, m, length), not {tuple(tokens.shape)}")
        return tokens.to(self._device)
