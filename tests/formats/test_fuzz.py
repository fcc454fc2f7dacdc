"""Whatever stands in a file, a reader gives well-formed values or a `RetgenError`; 20,000 bent files in all.

Each case is read strictly and with a list of what to skip, and the two readings must agree.
"""

from __future__ import annotations

import copy
import gc
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retgen import formats
from retgen.errors import RetgenError
from retgen.formats import Skipped, dpr, folder, jsonl, msmarco_qna, squad, trec
from retgen.types import Document, Query, Run, Triplet
from tests.formats import samples

Read = Callable[[Path, Skipped | None], Iterable[object]]

BYTES_CASES = 700
JSON_CASES = 900
VALUE_CASES = 400


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


BYTES: dict[str, tuple[str, bytes, Read]] = {
    "squad documents": ("a.json", encoded(samples.SQUAD), lambda p, s: squad.read_documents(p, skipped=s)),
    "squad questions": ("a.json", encoded(samples.SQUAD), lambda p, s: squad.read_questions(p, skipped=s)),
    "documents": ("a.jsonl", samples.lines(samples.DOCUMENTS), lambda p, s: jsonl.read_documents(p, skipped=s)),
    "queries": ("a.jsonl", samples.lines(samples.QUERIES), lambda p, s: jsonl.read_queries(p, skipped=s)),
    "triplets": ("a.jsonl", samples.lines(samples.TRIPLETS), lambda p, s: jsonl.read_triplets(p, skipped=s)),
    "query table": ("a.tsv", samples.QUERY_TABLE.encode(), lambda p, s: jsonl.read_query_table(p, skipped=s)),
    "dpr": ("a.json", encoded(samples.DPR), lambda p, s: dpr.read_triplets(p, skipped=s)),
    "dpr contexts": ("a.json", encoded(samples.DPR), lambda p, s: dpr.read_contexts(p, skipped=s)),
    "passages": ("a.tsv", samples.PASSAGES.encode(), lambda p, s: dpr.read_passages(p, skipped=s)),
    "msmarco columns": (
        "a.json",
        encoded(samples.MSMARCO_COLUMNS),
        lambda p, s: msmarco_qna.read_documents(p, skipped=s),
    ),
    "msmarco rows": (
        "a.jsonl",
        samples.lines(samples.MSMARCO_ROWS),
        lambda p, s: msmarco_qna.read_triplets(p, skipped=s),
    ),
    "run": ("a.trec", samples.RUN.encode(), lambda p, s: [trec.read_run(p, skipped=s)]),
    "qrels": ("a.qrels", samples.QRELS.encode(), lambda p, s: [trec.read_qrels(p, skipped=s)]),
    "beir qrels": ("a.tsv", samples.BEIR_QRELS.encode(), lambda p, s: [trec.read_qrels(p, skipped=s)]),
    "html": ("a.html", samples.HTML.encode(), lambda p, s: folder.read_documents(p, skipped=s)),
    "markdown": ("a.md", samples.MARKDOWN.encode(), lambda p, s: folder.read_documents(p, skipped=s)),
    "any corpus": ("a.json", encoded(samples.SQUAD), lambda p, s: formats.read_corpus(p, skipped=s)),
    "any questions": ("a", samples.lines(samples.TRIPLETS), lambda p, s: formats.read_triplets(p, skipped=s)),
}

OBJECTS: dict[str, tuple[str, object, bool, Read]] = {
    "squad documents": ("a.json", samples.SQUAD, False, BYTES["squad documents"][2]),
    "squad questions": ("a.json", samples.SQUAD, False, BYTES["squad questions"][2]),
    "documents": ("a.jsonl", samples.DOCUMENTS, True, BYTES["documents"][2]),
    "queries": ("a.jsonl", samples.QUERIES, True, BYTES["queries"][2]),
    "triplets": ("a.jsonl", samples.TRIPLETS, True, BYTES["triplets"][2]),
    "dpr": ("a.json", samples.DPR, False, BYTES["dpr"][2]),
    "dpr contexts": ("a.json", samples.DPR, False, BYTES["dpr contexts"][2]),
    "msmarco columns": ("a.json", samples.MSMARCO_COLUMNS, False, lambda p, s: msmarco_qna.read_triplets(p, skipped=s)),
    "msmarco rows": ("a.jsonl", samples.MSMARCO_ROWS, True, lambda p, s: msmarco_qna.read_documents(p, skipped=s)),
}

# What a file's author, or a fault of a program or a disk, may put where something else was meant.
ODD = [
    *(None, True, False, 0, 1, -1, 2, 1.5, 10**30, 1e308, float("nan"), float("inf")),
    *("", " ", "x", "d1", "q1", "1", "\0", "\ud800", "é", "a\nb", "a\tb", "\u2028", "\ufeff", "a b", "x" * 5000),
    *([], {}, [[]], [None], ["x"], ["x", "x"], [1, 2], {"a": 1}, {"text": "x"}, {"\ud800": 1}, [{}]),
    json.loads("[" * 80 + "]" * 80),
]
FRAGMENTS = [
    *(b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xf0\x9f"),
    *(b"\n", b"\r\n", b"\r", b"\t", b" ", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"", b"q1", b"d1"),
    *(b"null", b"NaN", b"1e999", b"-", b"0", b"\\ud800", b"\\u0000", b"<", b">", b"<![", b"<!--", b"&#0;", b"&#xd800;"),
    *(b"#", b"9" * 5000, b"[" * 3000),
    *(bytes([value]) for value in range(32, 127, 5)),
]
# One number is one edit (which fragment, how, how much, where): drawing costs more than reading.
EDITS = st.lists(st.integers(0, len(FRAGMENTS) * 26 * 4096 - 1), min_size=1, max_size=4)
BENDS = st.lists(st.integers(0, len(ODD) * 4 * 4096 - 1), min_size=1, max_size=3)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "x", "id", "\0", "\ud800"])
    | st.floats(allow_nan=True),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "_id", "text", "title", "data", "query", "query_id", "passages", "answers", "question"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
RELAXED = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder in memory where the system has one: twenty thousand files are written."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    # 3,000 brackets take the JSON parser to the recursion limit: what a collection at that depth finalizes fails for
    # want of a frame, and so does pytest's report of it.
    gc.freeze()
    gc.disable()
    yield path
    gc.enable()
    gc.unfreeze()
    shutil.rmtree(path)


def edited(data: bytes, edits: list[int]) -> bytes:
    """The file with pieces replaced, or cut off."""
    for edit in edits:
        edit, which = divmod(edit, len(FRAGMENTS))
        place, length = divmod(edit, 26)
        start = place * len(data) // 4096
        tail = data[start + max(length - 13, 0) :] if length else b""
        data = data[:start] + FRAGMENTS[which] + tail
    return data


def bent(value: object, bends: list[int]) -> object:
    """The JSON value with parts of it replaced, left out or doubled."""
    value = copy.deepcopy(value)
    for bend in bends:
        bend, which = divmod(bend, len(ODD))
        place, how = divmod(bend, 4)
        spots: list[tuple[object, object]] = []
        pending = [value]
        while pending:
            at = pending.pop()
            inner = list(at.items()) if isinstance(at, dict) else list(enumerate(at)) if isinstance(at, list) else []
            spots.extend((at, key) for key, _ in inner)
            pending.extend(item for _, item in inner)
        if not spots:
            return ODD[which]
        holder, key = spots[place % len(spots)]
        if how <= 1:
            holder[key] = copy.deepcopy(ODD[which])  # type: ignore[index]
        elif how == 2:
            del holder[key]  # type: ignore[attr-defined]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))  # type: ignore[call-overload]
        else:
            holder[f"{key}2"] = copy.deepcopy(holder[key])  # type: ignore[index]
    return value


def check_item(item: object) -> str:
    """A reader's value is whole and can be written; returns its id."""
    match item:
        case Document():
            assert item.text.strip() or item.title.strip()
            json.dumps(dict(item.metadata), allow_nan=False)
            "\0".join([item.id, item.text, item.title, json.dumps(dict(item.metadata), ensure_ascii=False)]).encode()
            assert "\0" not in item.text + item.title
            return check_id(item.id)
        case Triplet():
            assert all("\0" not in answer and answer.encode() is not None for answer in item.answers)
            assert len(set(map(check_id, item.doc_ids))) == len(item.doc_ids)
            return check_item(item.query)
        case Query():
            assert item.text.strip()
            item.text.encode()
            return check_id(item.id)
        case Run():
            assert all(check_id(hit.doc_id) and hit.rank >= 1 for hits in item.values() for hit in hits)
            return "".join(map(check_id, item.query_ids))
        case dict():
            for query_id, row in item.items():
                assert check_id(query_id)
                assert row
                assert all(check_id(doc_id) and isinstance(grade, int) for doc_id, grade in row.items())
            return "qrels"
        case _:
            raise AssertionError(type(item))


def check_id(value: str) -> str:
    assert value.strip()
    assert not set(value) & set("\0\n\r\t\u2028")
    value.encode()
    return value


def read_both_ways(path: Path, read: Read) -> None:
    """Strictly and skipping: no foreign error, well-formed values, distinct ids, and the two ways agree."""
    skipped = Skipped()
    strict: list[object] = []
    failure: RetgenError | None = None
    broken = False
    try:
        strict.extend(read(path, None))
    except RetgenError as error:
        failure = error
    lenient: list[object] = []
    try:
        lenient.extend(read(path, skipped))
    except RetgenError:
        broken = True
    ids = [check_item(item) for item in lenient]
    assert len(set(ids)) == len(ids)
    assert (failure is not None) == (broken or skipped.count > 0)
    if failure is None:
        assert strict == lenient or isinstance(strict[0], Run)
    else:
        assert path.name in str(failure.where)
    assert skipped.count >= len(skipped.errors)
    assert all(error.path == str(path) for error in skipped.errors)


def test_the_cases_are_twenty_thousand() -> None:
    assert len(BYTES) * BYTES_CASES + len(OBJECTS) * JSON_CASES + 2 * VALUE_CASES >= 20_000


@pytest.mark.slow
@pytest.mark.parametrize("name", BYTES)
def test_bent_bytes(home: Path, name: str) -> None:
    suffix, data, read = BYTES[name]
    path = home / suffix
    path.write_bytes(data)
    assert list(read(path, None))
    cases = 0

    @settings(RELAXED, max_examples=BYTES_CASES)
    @given(EDITS)
    def case(edits: list[int]) -> None:
        nonlocal cases
        cases += 1
        path.write_bytes(edited(data, edits))
        read_both_ways(path, read)

    case()
    assert cases >= BYTES_CASES


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTS)
def test_bent_json(home: Path, name: str) -> None:
    suffix, value, by_line, read = OBJECTS[name]
    path = home / suffix
    cases = 0

    @settings(RELAXED, max_examples=JSON_CASES)
    @given(BENDS)
    def case(bends: list[int]) -> None:
        nonlocal cases
        cases += 1
        found = bent(value, bends)
        if by_line and isinstance(found, list):
            path.write_bytes(b"".join(encoded(row) + b"\n" for row in found))
        else:
            path.write_bytes(encoded(found))
        read_both_ways(path, read)

    case()
    assert cases >= JSON_CASES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["any corpus", "any questions"])
def test_any_json_at_all(home: Path, name: str) -> None:
    path = home / "any.json"
    cases = 0

    @settings(RELAXED, max_examples=VALUE_CASES)
    @given(VALUES)
    def case(value: object) -> None:
        nonlocal cases
        cases += 1
        path.write_bytes(encoded(value))
        read_both_ways(path, BYTES[name][2])

    case()
    assert cases >= VALUE_CASES
