"""Docids are sorted as Python sorts tuples, however long what they share, and stably."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retgen.docids.tree_sort import lexical_order, shared_prefixes

EOS = 1
bodies = st.lists(st.sampled_from([0, 2, 65_535]), min_size=0, max_size=14)
wide = st.lists(st.sampled_from([0, 2, 65_535, 65_536, 2**31 - 1]), min_size=0, max_size=14)


@settings(max_examples=150, deadline=None)
@given(docids=st.one_of(*(st.lists(body.map(lambda b: (*b, EOS)), min_size=1, max_size=30) for body in (bodies, wide))))
def test_order_and_shared_prefixes(docids: list[tuple[int, ...]]) -> None:
    tokens = np.array([token for docid in docids for token in docid])
    offsets = np.cumsum([0, *map(len, docids)])
    order = lexical_order(tokens, offsets, int(tokens.max()))
    assert order.tolist() == sorted(range(len(docids)), key=docids.__getitem__)
    ordered = [docids[number] for number in order]
    shared = [
        next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        for one, other in pairwise(ordered)
    ]
    assert shared_prefixes(tokens, offsets, order, EOS).tolist() == shared


def test_more_documents_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(2, 5, size=(3000, 9))
    rows[:, -1] = EOS
    monkeypatch.setattr("retgen.docids.tree_sort._BLOCK", 256)
    offsets = np.arange(3001) * 9
    order = lexical_order(rows.reshape(-1), offsets, 5)
    assert order.tolist() == np.lexsort(rows.T[::-1]).tolist()
    ordered = rows[order]
    differ = ordered[1:] != ordered[:-1]
    expected = np.where(differ.any(axis=1), differ.argmax(axis=1), 9)
    assert shared_prefixes(rows.reshape(-1), offsets, order, EOS).tolist() == expected.tolist()
