"""The benchmark of the docid tree runs, and fails where tree and dict say different things; no time is asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.bench_docid_tree import EOS, dict_trie, main, peer_walk, synthetic_docids
from retgen.docids.prefix_tree import PrefixTree

SMALL = [
    "--documents",
    "300",
    "60",
    "--vocab",
    "40",
    "--batch",
    "2",
    "--beams",
    "4",
    "--repeats",
    "1",
    "--changes",
    "9",
]


def test_json_has_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--peer-documents", "60", "--json"])
    (line,) = capsys.readouterr().out.splitlines()
    large, small = json.loads(line)["results"]
    assert (large["documents"], small["documents"]) == (300, 60)
    assert large["peer_walks"] == []
    assert large["peer_bytes_per_document"] is None
    assert small["peer_walks"][0]["steps"] == small["walks"][0]["steps"] == 21
    for result in (large, small):
        assert result["token_bits"] == 16
        assert result["peak_mib"] > result["input_mib"] > 0
        assert result["walks"][0]["children"] > 0
        assert len(result["changed_walks"]) == 1


def test_the_table_has_a_row_for_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--length", "5"])
    shown = capsys.readouterr().out
    assert "| 300" in shown
    assert "| 60" in shown
    assert "step, 4 beams" in shown


def test_what_differs_is_an_error() -> None:
    tokens, offsets = synthetic_docids(30, 6, 20, np.random.default_rng(0))
    tree = PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS)
    trie = dict_trie(tokens, 6)
    assert peer_walk(tree, trie, 2, 3, 1, 0).steps == 6
    trie[()] = trie[()][:-1]
    with pytest.raises(SystemExit, match="the dict"):
        peer_walk(tree, trie, 2, 3, 1, 0)
