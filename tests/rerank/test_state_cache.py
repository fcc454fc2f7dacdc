"""The cache of encoder states: what was put is what is got, across processes; what is torn or foreign is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from retgen.errors import ArtefactError, MismatchError
from retgen.rerank.state_cache import HEADER, StateCache

ENCODER = "0" * 64


def states(*passages: tuple[int, ...], width: int = 4) -> dict[tuple[int, ...], Tensor]:
    chance = torch.Generator().manual_seed(sum(map(sum, passages)))
    return {passage: torch.randn(len(passage), width, generator=chance) for passage in passages}


def equal(found: dict[tuple[int, ...], Tensor], expected: dict[tuple[int, ...], Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def files(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors"))


def test_what_was_put_is_got_and_what_was_not_is_left_out(tmp_path: Path) -> None:
    known = states((1, 2, 3), (4,), (1, 2))
    cache = StateCache(tmp_path / "cache", ENCODER)
    assert cache.get([(1, 2, 3)]) == {}
    cache.put(known)
    assert equal(cache.get([*known, (9, 9)]), known)
    again = StateCache(tmp_path / "cache", ENCODER)
    assert len(again) == 3
    assert equal(again.get([*known, (9, 9)]), known)


def test_many_files_are_read_with_few_open(tmp_path: Path) -> None:
    cache = StateCache(tmp_path, ENCODER)
    known = {}
    for number in range(40):
        part = states((number, 7))
        cache.put(part)
        known |= part
    again = StateCache(tmp_path, ENCODER)
    assert equal(again.get(reversed(list(known))), known)
    assert len(again._open) <= 16


def test_known_passages_are_not_written_twice(tmp_path: Path) -> None:
    cache = StateCache(tmp_path, ENCODER)
    cache.put(states((1, 2)))
    cache.put(states((1, 2)))
    cache.put({})
    assert len(files(tmp_path)) == 1


def test_bf16_states_come_back_as_they_were(tmp_path: Path) -> None:
    known = {(1, 2): torch.randn(2, 3).to(torch.bfloat16)}
    StateCache(tmp_path, ENCODER).put(known)
    assert equal(StateCache(tmp_path, ENCODER).get(known), known)


def test_two_writers_and_a_reader_share_a_folder(tmp_path: Path) -> None:
    one, other = StateCache(tmp_path, ENCODER), StateCache(tmp_path, ENCODER)
    one.put(states((1, 2), (3,)))
    other.put(states((1, 2), (3,)))
    other.put(states((5,)))
    assert equal(one.get([(1, 2), (3,)]), states((1, 2), (3,)))
    assert len(StateCache(tmp_path, ENCODER)) == 3


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    StateCache(tmp_path, ENCODER).put(states((1, 2)))
    with pytest.raises(MismatchError, match="another encoder"):
        StateCache(tmp_path, "1" * 64)
    # Also where a file was copied in from another cache.
    StateCache(tmp_path.parent / "other", "1" * 64).put(states((3,)))
    (foreign,) = files(tmp_path.parent / "other")
    (tmp_path / foreign.name).write_bytes(foreign.read_bytes())
    with pytest.raises(MismatchError, match="another encoder"):
        StateCache(tmp_path, ENCODER)


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, left: int) -> None:
    StateCache(tmp_path, ENCODER).put(states((1, 2, 3), (4, 5)))
    (file,) = files(tmp_path)
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ArtefactError, match="torn") as caught:
        StateCache(tmp_path, ENCODER)
    assert caught.value.where == str(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format_version": 1}', b"\xff\xfe"])
def test_a_torn_header_is_refused(tmp_path: Path, content: bytes) -> None:
    StateCache(tmp_path, ENCODER)
    (tmp_path / HEADER).write_bytes(content)
    with pytest.raises(ArtefactError, match="torn"):
        StateCache(tmp_path, ENCODER)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / HEADER).write_text('{"format_version": 99, "encoder": "x"}')
    with pytest.raises(ArtefactError, match="newer retgen"):
        StateCache(tmp_path, ENCODER)


def test_nothing_is_written_into_other_folders_or_over_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtefactError, match="not a state cache"):
        StateCache(tmp_path, ENCODER)
    with pytest.raises(ArtefactError, match="not a state cache"):
        StateCache(tmp_path / "thesis.tex", ENCODER)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_that_has_gone_is_said(tmp_path: Path) -> None:
    cache = StateCache(tmp_path, ENCODER)
    cache.put(states((1, 2)))
    files(tmp_path)[0].unlink()
    with pytest.raises(ArtefactError, match="torn"):
        cache.get([(1, 2)])


_WRITER = """
import itertools, sys, torch
from retgen.rerank.state_cache import StateCache
cache = StateCache(sys.argv[1], "0" * 64)
print("writing", flush=True)
for number in itertools.count():
    cache.put({(number, place): torch.full((2, 2000), float(number)) for place in range(20)})
"""


def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        deadline = time.monotonic() + 60
        while len(files(tmp_path)) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    cache = StateCache(tmp_path, ENCODER)
    whole = len(files(tmp_path))
    assert whole >= 3
    assert len(cache) == whole * 20
    assert equal(cache.get([(1, 3)]), {(1, 3): torch.full((2, 2000), 1.0)})
