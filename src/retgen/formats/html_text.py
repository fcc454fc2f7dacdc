"""The readable text of an HTML page, with the standard library's parser: no script, no style, blocks on lines."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_HIDDEN = {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "head"}
_BLOCK_TAGS = """
address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4
h5 h6 header hr html li main nav ol option p pre section summary table tbody td tfoot th thead tr ul
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_HEADINGS = {"h1", "h2", "h3"}
_SPACES = re.compile(r"[^\S\n]+")
_BREAKS = re.compile(r"\s*\n\s*")


def extract(source: str) -> tuple[str, str]:
    """Title and text of a page. The title is ``<title>``, else the first heading, else empty.

    Example:
        >>> extract("<title>Tea</title><h1>On tea</h1><p>Green &amp; black.<script>x()</script>")
        ('Tea', 'On tea\\nGreen & black.')
    """
    page = _Page()
    page.feed(source)
    page.close()
    title = " ".join("".join(page.title).split()) or " ".join("".join(page.heading).split())
    text = _BREAKS.sub("\n", _SPACES.sub(" ", "".join(page.parts)))
    return title, text.strip()


class _Page(HTMLParser):
    """Collects text while it walks the tags; ends of tags that were never opened are of no account."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title: list[str] = []
        self.heading: list[str] = []
        self._hidden: list[str] = []
        self._in_title = False
        self._in_heading: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title and "svg" not in self._hidden:
            self._in_title = True
        elif tag == "body":
            # A page whose head was never closed still has a body.
            self._hidden.clear()
            self._in_title = False
        elif tag in _HIDDEN:
            self._hidden.append(tag)
        if tag in _HEADINGS and not "".join(self.heading).strip():
            self._in_heading = tag
        if tag in _BLOCKS:
            self._break(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS:
            self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in self._hidden:
            while self._hidden.pop() != tag:
                pass
        if tag == self._in_heading:
            self._in_heading = None
        if tag in _BLOCKS:
            self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._hidden:
            self.parts.append(_inline(data))
            if self._in_heading:
                self.heading.append(data)

    def _break(self, tag: str) -> None:
        self.parts.append("\t" if tag in ("td", "th") else "\n")


def _inline(data: str) -> str:
    return re.sub(r"\s+", " ", data)
