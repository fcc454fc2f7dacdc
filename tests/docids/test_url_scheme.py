"""The scheme ``url``: addresses told from their ends, titles where there are none."""

from __future__ import annotations

import pytest

from retgen.docids.url_scheme import UrlScheme
from retgen.errors import UsageError
from retgen.types import Document


def docid(address: object, **options: object) -> str:
    scheme = UrlScheme(**options)  # type: ignore[arg-type]
    return next(iter(scheme([Document("a", "", "A Title", {"url": address})])))[1]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://en.wikipedia.org/wiki/Iron_ore", "iron ore/wiki/en.wikipedia.org"),
        ("http://www.Example.org:8080/a/b-c.html?x=1#top", "b c/a/example.org"),
        ("example.org/Caf%C3%A9/", "café/example.org"),
        ("https://example.org/", "example.org"),
        ("/only/a/path.txt", "path/a/only"),
        ("", "a title"),
    ],
)
def test_the_last_part_comes_first_in_words(address: str, expected: str) -> None:
    assert docid(address) == expected


def test_path_and_host_may_be_left_out() -> None:
    address = "https://example.org/a/b/c"
    assert docid(address, depth=1) == "c/example.org"
    assert docid(address, depth=2, host=False) == "c/b"
    assert docid("https://example.org", host=False) == "example.org"


def test_titles_stand_in_and_are_numbered() -> None:
    documents = [Document("a", "", "Mars"), Document("b", "", "Io"), Document("c", "", " MARS "), Document("d", "")]
    assert [text for _, text in UrlScheme()(documents)] == ["mars", "io", "mars/2", ""]


def test_an_address_that_is_no_text_is_named() -> None:
    with pytest.raises(UsageError, match="'a' is not a text but 7"):
        docid(7)
    with pytest.raises(UsageError, match="-1 parts"):
        UrlScheme(depth=-1)
