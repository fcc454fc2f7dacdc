"""States that a frozen encoder made of texts, in memory: the latest used, up to a number of tokens.

Behind the memory there may be a store on disk (`retgen.rerank.state_cache`), which other processes read too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

Tokens = tuple[int, ...]

STORED_AT_ONCE = 2**14
"""Tokens of new states that are gathered before a store is given them; a process that ends keeps the last few back."""


class StateStore(Protocol):
    """What keeps states longer than a memory does."""

    def get(self, passages: Iterable[Tokens]) -> dict[Tokens, Tensor]:
        """The states of those texts that are known, on the CPU."""

    def put(self, states: Mapping[Tokens, Tensor]) -> None:
        """Keep states of texts that are not known yet."""


class StateMemory:
    """States by the token ids of their text.

    It belongs to weights that do not change. Copies and pickles of it are empty, and without a store.

    Args:
        most_tokens: of all kept texts; the least recently used go first. At a width of 384 in fp32, 2**20 tokens are
            1.5 GiB. 0 keeps nothing.
        store: is asked for what is not in memory, and given what is made, some `STORED_AT_ONCE` tokens at a time. It
            must belong to the same weights and number type.
    """

    def __init__(self, most_tokens: int = 2**20, store: StateStore | None = None) -> None:
        self.most_tokens = most_tokens
        self.store = store
        self._unstored: dict[Tokens, Tensor] = {}
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
        texts = list(texts)
        found = self._in_memory(texts, device, dtype)
        if self.store is not None and len(found) < len(texts):
            stored = self.store.get({text for text in texts if text not in found})
            read = {text: states.to(device) for text, states in stored.items() if states.dtype == dtype}
            self._remember(read)
            found.update(read)
        return found

    def put(self, states: Mapping[Tokens, Tensor]) -> None:
        """Keep states; in memory those of texts longer than there is room are not."""
        self._remember(states)
        if self.store is not None:
            self._unstored.update(states)
            if sum(map(len, self._unstored)) >= STORED_AT_ONCE:
                self.store.put(self._unstored)
                self._unstored = {}

    def _in_memory(self, texts: Iterable[Tokens], device: torch.device, dtype: torch.dtype) -> dict[Tokens, Tensor]:
        found: dict[Tokens, Tensor] = {}
        for text in texts:
            states = self._states.get(text)
            if states is None or text in found:
                continue
            if states.device != device or states.dtype != dtype:
                # The model has moved: nothing of what was kept is of use again.
                self._forget()
                return {}
            self._states.move_to_end(text)
            found[text] = states
        return found

    def _remember(self, states: Mapping[Tokens, Tensor]) -> None:
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
        """Forget all, the store too: the weights are others from now on."""
        self._forget()
        self._unstored = {}
        self.store = None

    def _forget(self) -> None:
        self._states.clear()
        self._tokens = 0

    def __reduce__(self) -> tuple[type[StateMemory], tuple[int]]:
        return StateMemory, (self.most_tokens,)
