"""An array, or an object of columns, read piece by piece is what `json` reads whole, wherever the pieces end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retgen.errors import RecordError
from retgen.formats import json_stream
from retgen.formats.json_stream import json_array, json_columns

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
).filter(lambda value: "Infinity" not in json.dumps(value))


@given(st.lists(VALUES, max_size=6), st.integers(1, 7), st.sampled_from([None, 1]), st.booleans())
def test_equal_to_reading_whole(
    tmp_path_factory: pytest.TempPathFactory, values: list[object], chunk: int, indent: int | None, ascii: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "array.json"
    text = json.dumps(values, indent=indent, ensure_ascii=ascii)
    path.write_text(f" {text}\n", encoding="utf-8", errors="surrogatepass" if ascii else "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        found = list(json_array(path))
    assert [number for number, _ in found] == list(range(1, len(values) + 1))
    assert [value for _, value in found] == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("", "array was expected", 1),
        ("{}", "array was expected", 1),
        ("[1, 2", "comma or its end", 2),
        ("[1 2]", "comma or its end", 1),
        ("[1,]", "not JSON", 2),
        ('[1, {"a": ]', "not JSON", 2),
        ("[1] 2", "follows", 1),
        ("[NaN]", "NaN", 1),
        ("[" * 100_000, "not usable", 1),
    ],
)
def test_a_broken_array_is_named_by_its_element(tmp_path: Path, text: str, words: str, line: int) -> None:
    path = tmp_path / "array.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=words) as caught:
        list(json_array(path))
    assert caught.value.line == line


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "array.json"
    path.write_bytes(b'["a", "\xff"]')
    with pytest.raises(RecordError, match="UTF-8"):
        list(json_array(path))


@given(
    st.dictionaries(st.text(max_size=3), st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=3),
    st.integers(1, 7),
    st.sampled_from([None, 1]),
)
def test_columns_are_equal_to_reading_whole(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, dict[str, object]], chunk: int, indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "columns.json"
    path.write_text(f" {json.dumps(columns, indent=indent)}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        found = list(json_columns(path))
    expected = [
        (column, number, key, value)
        for column, entries in columns.items()
        for number, (key, value) in enumerate(entries.items(), 1)
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("[]", "object was expected", 1),
        ('{"a": 5}', "object was expected", 1),
        ('{"a": {"0": 1, "1" 2}}', "a name and a colon", 1),
        ('{"a": {"0": 1, 1: 2}}', "a name and a colon", 1),
        ('{"a": {"0": 1, "1": 2', "comma or its end", 2),
        ('{"a": {"0": 1}, "b": {"0": tru}}', "not JSON", 1),
        ('{"a": {"0": 1}} {}', "follows", 1),
    ],
)
def test_broken_columns_are_named_by_the_place(tmp_path: Path, text: str, words: str, line: int) -> None:
    path = tmp_path / "columns.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=words) as caught:
        list(json_columns(path))
    assert caught.value.line == line
