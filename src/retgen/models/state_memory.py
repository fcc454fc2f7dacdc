"""States that a frozen encoder made of texts, in memory: the latest used, up to a number of tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Tokens = tuple[int, ...]


class StateMemory:
    """States by the token ids of their text.

    It belongs to weights that do not change. Copies and pickles of it are empty.

    Args:
        most_tokens: of all kept texts; the least recently used go first. At a width of 384 in fp32, 2**20 tokens are
            1.5 GiB. 0 keeps nothing.
    """

    def __init__(self, most_tokens: int = 2**20) -> None:
        self.most_tokens = most_tokens
        self._states: OrderedDict[Tokens, Tensor] = OrderedDict()
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def tokens(self) -> int:
        """Tokens of all kept texts."""
        return self._tokens

    def get(self, texts: Iterable[Tokens], device: torch.device, dtype: torch.dtype) -> dict[Tokens, Tensor]:
        """The states of those texts that are kept for this device and number type."""
        found = {}
        for text in texts:
            states = self._states.get(text)
            if states is None or text in found:
                continue
            if states.device != device or states.dtype != dtype:
                # The model has moved: nothing of what was kept is of use again.
                self.clear()
                return {}
            self._states.move_to_end(text)
            found[text] = states
        return found

    def put(self, states: Mapping[Tokens, Tensor]) -> None:
        """Keep states; those of texts longer than there is room are not."""
        for text, values in states.items():
            if len(text) > self.most_tokens:
                continue
            if text not in self._states:
                self._tokens += len(text)
            self._states[text] = values.detach()
            self._states.move_to_end(text)
        while self._tokens > self.most_tokens:
            oldest, _ = self._states.popitem(last=False)
            self._tokens -= len(oldest)

    def clear(self) -> None:
        """Forget all."""
        self._states.clear()
        self._tokens = 0

    def __reduce__(self) -> tuple[type[StateMemory], tuple[int]]:
        return StateMemory, (self.most_tokens,)
