"""API keys: compared in constant time, as bearer tokens or in a header of their own."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence


class Keys:
    """The keys that open a server; with none, everything fits.

    Example:
        >>> Keys(["correct-horse"]).fit({"authorization": "Bearer correct-horse"})
        True
    """

    def __init__(self, keys: Sequence[str]) -> None:
        # Digests are of one length, so that a comparison tells nothing of the keys'.
        self._digests = [_digest(key) for key in keys]

    def fit(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers (names in lower case) may enter. All keys are compared, always."""
        if not self._digests:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        brought = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = _digest(brought)
        fits = [hmac.compare_digest(digest, own) for own in self._digests]
        return any(fits)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
