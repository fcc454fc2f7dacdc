"""The docid scheme ``url``: a document's address, told from its end, or one made from its title."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from retgen.errors import UsageError
from retgen.types import Document

_ENDING = re.compile(r"\.(?:html?|php|aspx?|jsp|pdf|txt|md)$", re.IGNORECASE)
_BREAKS = re.compile(r"[\s_+\-]+")


@dataclass(frozen=True, slots=True)
class UrlScheme:
    """The docid is the document's URL, its last part first, since that says most: "iron ore/minerals/example.org".

    A part is written in words: escapes are read, hyphens and underscores become spaces, an ending such as ``.html``
    goes, and so do scheme, port, query and fragment, and ``www.``. A document without a URL has the address that a site
    of titles would file it under: its title, and from the second document of that title on its number ("mars/2").

    Args:
        field: of the metadata that holds the URL.
        depth: most parts of the path, from the end, beside the host. 0 takes all.
        host: end with the host. It tells sites apart, and is of no use within one.

    Raises:
        UsageError: a negative depth, or metadata whose URL is not a text.

    Reference:
        Zhou et al., "Ultron: An Ultimate Retriever on Corpus with a Model-based Indexer", 2022 (Ultron-URL).

    Example:
        >>> iron = Document("a", "", "Iron", {"url": "https://www.example.org/minerals/Iron_ore.html?page=2"})
        >>> [text for _, text in UrlScheme()([iron, Document("b", "", "Mars"), Document("c", "", "Mars")])]
        ['iron ore/minerals/example.org', 'mars', 'mars/2']
    """

    field: str = "url"
    depth: int = 0
    host: bool = True
    name = "url"

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise UsageError(f"a docid cannot have {self.depth} parts of a path", mend="Give 0 for all of them")

    def __call__(
        self, documents: Iterable[Document], connectors: Mapping[str, str] | None = None, /
    ) -> Iterator[tuple[str, str]]:
        """Document id and docid text of every document."""
        met: Counter[str] = Counter()
        for document in documents:
            address = document.metadata.get(self.field)
            if address is not None and not isinstance(address, str):
                raise UsageError(
                    f"the URL of document {document.id!r} is not a text but {address!r}",
                    where=f"metadata {self.field!r}",
                    mend="Mend the collection, or name the field that holds URLs",
                )
            text = self._reversed(address) if address else ""
            if not text:
                text = _words(document.title)
                met[text] += 1
                if text and met[text] > 1:
                    text = f"{text}/{met[text]}"
            yield document.id, text

    def _reversed(self, address: str) -> str:
        parts = urlsplit(address if "//" in address else f"//{address}")
        path = [words for part in parts.path.split("/") if (words := _words(_ENDING.sub("", unquote(part))))]
        path = path[-self.depth :] if self.depth else path
        host = (parts.hostname or "").removeprefix("www.")
        # A site's front page has nothing but its host.
        return "/".join([*reversed(path), *([host] if host and (self.host or not path) else [])])


def _words(text: str) -> str:
    return _BREAKS.sub(" ", text).strip().lower()
