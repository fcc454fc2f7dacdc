"""Encoder states of passages, kept on disk from one run to the next.

A folder of safetensors files that are written whole and never changed, each with many passages' states, and a header
that says whose states they are. A killed process leaves no more than a hidden draft; readers and writers may work at
the same time, as nothing is ever written where something stands.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from retgen import store
from retgen.errors import ArtefactError, MismatchError

HEADER = "state-cache.json"
FORMAT_VERSION = 1
_OPEN_FILES = 16
_MEND = "Remove this folder; the states are made again"

Tokens = tuple[int, ...]
"""A passage's input, which with the encoder determines its states."""


class StateCache:
    """States by the token ids of their passage.

    Only a short key of every passage is held in memory; states are read from memory-mapped files.

    Args:
        path: a folder; made where there is none.
        fingerprint: of the encoder, its dtype included.

    Raises:
        MismatchError: the folder holds the states of another encoder.
        ArtefactError: a file of it is cut short or not readable, or the folder is not a state cache.
    """

    def __init__(self, path: str | Path, fingerprint: str) -> None:
        self.path = Path(path).expanduser()
        self._fingerprint = fingerprint
        self._files: list[Path] = []
        self._file_of: dict[str, int] = {}
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._check_header()
        self._look_again()

    def __len__(self) -> int:
        return len(self._file_of)

    def get(self, passages: Iterable[Tokens]) -> dict[Tokens, Tensor]:
        """States ``(length, d_model)`` of those passages that are known, on the CPU.

        Raises:
            ArtefactError: a file has gone, or cannot be read.
        """
        keys = {_key(passage): passage for passage in passages}
        if any(key not in self._file_of for key in keys):
            self._look_again()
        known = [(self._file_of.get(key, -1), passage) for key, passage in keys.items()]
        found = {}
        # File by file, so that each is opened once.
        for number, passage in sorted((place, passage) for place, passage in known if place >= 0):
            states = self._read(number, _key(passage))
            if len(states) != len(passage):
                raise self._torn(self._files[number], f"{len(states)} states where {len(passage)} tokens were read")
            found[passage] = states
        return found

    def put(self, states: Mapping[Tokens, Tensor]) -> None:
        """Keep states of passages that are not known yet, in one file, written whole or not at all.

        Raises:
            ArtefactError: the disk is full, or the folder not writable.
        """
        fresh = {_key(passage): value.detach().cpu().contiguous() for passage, value in states.items()}
        fresh = {key: value for key, value in fresh.items() if key not in self._file_of}
        if not fresh:
            return
        target = self.path / f"states-{secrets.token_hex(8)}.safetensors"
        with store.atomic_file(target) as draft:
            save_file(fresh, draft, metadata={"encoder": self._fingerprint})
        self._files.append(target)
        self._file_of.update(dict.fromkeys(fresh, len(self._files) - 1))

    def _check_header(self) -> None:
        header = self.path / HEADER
        if not header.exists():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise ArtefactError(
                    "something stands there that is not a state cache", where=self.path, mend="Choose another path"
                )
            body = {"format": "retgen state cache", "format_version": FORMAT_VERSION, "encoder": self._fingerprint}
            store.write_atomic(header, json.dumps(body, indent=1))
        try:
            body = json.loads(header.read_text(encoding="utf-8"))
            version, encoder = int(body["format_version"]), str(body["encoder"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._torn(header, "it is torn") from error
        if version > FORMAT_VERSION:
            raise ArtefactError(
                "this state cache was written by a newer retgen", where=self.path, mend="Update retgen: pip install -U"
            )
        self._check_encoder(encoder, self.path)

    def _check_encoder(self, encoder: str | None, where: Path) -> None:
        if encoder != self._fingerprint:
            raise MismatchError(
                "this cache holds the states of another encoder, or of the same in another dtype",
                where=where,
                mend="Give every encoder a cache of its own, or remove this folder",
            )

    def _look_again(self) -> None:
        """Find what others have kept meanwhile."""
        known = set(self._files)
        for file in sorted(self.path.glob("*.safetensors")):
            if file not in known:
                self._add(file)

    def _add(self, file: Path) -> None:
        number = len(self._files)
        self._files.append(file)
        reader = self._reader(number)
        self._check_encoder((reader.metadata() or {}).get("encoder"), file)
        for key in reader.keys():  # noqa: SIM118, it is not a mapping
            self._file_of.setdefault(key, number)

    def _reader(self, number: int) -> Any:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        file = self._files[number]
        try:
            # Its header is read and compared with the file's length here: what is cut short does not open.
            reader: Any = safe_open(file, framework="pt")
        except (OSError, SafetensorError, ValueError) as error:
            raise self._torn(file, f"it cannot be read ({str(error).splitlines()[0]})") from error
        self._open[number] = reader
        while len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)
        return reader

    def _read(self, number: int, key: str) -> Tensor:
        try:
            states: Tensor = self._reader(number).get_tensor(key)
        except (OSError, SafetensorError, ValueError) as error:
            raise self._torn(self._files[number], "it cannot be read") from error
        return states

    def _torn(self, file: Path, what: str) -> ArtefactError:
        return ArtefactError(f"a file of this state cache is torn: {what}", where=file, mend=_MEND)


def _key(passage: Tokens) -> str:
    return hashlib.blake2b(np.asarray(passage, dtype="<i4").tobytes(), digest_size=16).hexdigest()
