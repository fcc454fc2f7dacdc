"""A query and a passage as a cross-encoder reads them: one sequence of tokens, in which only the passage is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from retgen.errors import UsageError
from retgen.models.match_marks import marked_types

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Pair = tuple[str, str]
"""Query and passage."""
Row = dict[str, list[int]]
"""What the tokenizer gives for a pair: ``input_ids``, ``attention_mask`` and, if it makes them, ``token_type_ids``."""
SHORTEST = 16


class PairInputs:
    """Makes a model's inputs of pairs.

    A pair longer than ``max_length`` loses the end of its passage, never of its query: a query that takes more than its
    share of the input is cut to it first.

    Args:
        tokenizer: of the model.
        max_length: tokens of a pair, special ones included; at least 16.
        query_share: of these tokens, the most that the query may take.
        match_marks: whether the model reads marks, see `retgen.models.match_marks`.
        cut_step: a passage that does not fit is cut to a multiple of so many tokens. Where it is cut depends on the
            query; a model that keeps what it made of a passage (`retgen.models.late_join`) meets it in few lengths so.

    Raises:
        UsageError: ``max_length`` or ``query_share`` is out of range, or the tokenizer has no token types to mark.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        query_share: float = 0.5,
        *,
        match_marks: bool = False,
        cut_step: int = 1,
    ) -> None:
        if max_length < SHORTEST:
            raise UsageError(f"a pair needs at least {SHORTEST} tokens; got max_length={max_length}")
        if not 0.0 < query_share <= 0.75:
            raise UsageError(f"the query's share of a pair lies above 0 and at most at 0.75, not at {query_share}")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.query_share = query_share
        self.match_marks = match_marks
        self.cut_step = cut_step
        if (match_marks or cut_step > 1) and "token_type_ids" not in tokenizer.model_input_names:
            raise UsageError(
                "what tells query and passage apart are token types, and this tokenizer makes none",
                mend="Use the tokenizer of the model's own family",
            )

    def rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """The pairs' tokens, unpadded, in their order."""
        if not pairs:
            return []
        cut = {query: self._cut(query) for query in dict.fromkeys(query for query, _ in pairs)}
        encoded = self.tokenizer(
            [cut[query] for query, _ in pairs],
            [passage for _, passage in pairs],
            truncation="only_second",
            max_length=self.max_length,
            padding=False,
        )
        names = list(encoded.keys())
        rows = [{name: encoded[name][number] for name in names} for number in range(len(pairs))]
        if self.cut_step > 1:
            rows = [self._cut_passage(row) if len(row["input_ids"]) == self.max_length else row for row in rows]
        if self.match_marks:
            special = set(self.tokenizer.all_special_ids)
            for row in rows:
                row["token_type_ids"] = marked_types(row["input_ids"], row["token_type_ids"], special)
        return rows

    def padded(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Rows as one batch: name → shape (B, longest row)."""
        width = max(len(row["input_ids"]) for row in rows)
        fill = {
            "input_ids": self.tokenizer.pad_token_id,
            "token_type_ids": self.tokenizer.pad_token_type_id,
        }
        left = self.tokenizer.padding_side == "left"
        batch = {}
        for name in rows[0]:
            lines = []
            for row in rows:
                padding = [fill.get(name, 0)] * (width - len(row[name]))
                lines.append([*padding, *row[name]] if left else [*row[name], *padding])
            batch[name] = torch.tensor(lines, dtype=torch.long)
        return batch

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The pairs as one batch."""
        return self.padded(self.rows(pairs))

    def _cut_passage(self, row: Row) -> Row:
        """A full row with its passage at a multiple of ``cut_step`` tokens, its last [SEP] kept."""
        tokens = sum(row["token_type_ids"]) - 1
        less = tokens % self.cut_step if tokens > self.cut_step else 0
        return {name: [*values[: len(values) - 1 - less], values[-1]] for name, values in row.items()}

    def _cut(self, query: str) -> str:
        most = int(self.max_length * self.query_share)
        # A token stands for one byte at the least, so that most queries need not be looked at.
        if len(query.encode("utf-8", "surrogatepass")) <= most:
            return query
        encoded = self.tokenizer(query, add_special_tokens=False, return_offsets_mapping=self.tokenizer.is_fast)
        ids = encoded["input_ids"]
        if len(ids) <= most:
            return query
        if not self.tokenizer.is_fast:
            return str(self.tokenizer.decode(ids[:most]))
        return query[: encoded["offset_mapping"][most - 1][1]]
