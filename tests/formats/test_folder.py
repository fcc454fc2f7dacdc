"""A folder of files: ids are paths, titles are headings, and a file that cannot be read is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from retgen.errors import FormatError, MissingExtraError, RecordError
from retgen.formats import Skipped, folder, html_text, read_corpus
from tests.formats import samples


def pdf(text: str, title: str = "") -> bytes:
    """The smallest PDF with one line of text on one page."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1")
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R "
        b"/Resources << /Font << /F1 4 0 R >> >> >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Title (%s) >>" % title.encode("latin-1"),
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return out + b"trailer << /Size %d /Root 1 0 R /Info 6 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(bodies) + 1, start)


def test_files_of_every_kind(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    pytest.importorskip("pypdf")
    (tmp_path / "b" / "deep er").mkdir(parents=True)
    (tmp_path / "b" / "tea.HTML").write_text(samples.HTML)
    (tmp_path / "b" / "deep er" / "note.md").write_text(samples.MARKDOWN)
    (tmp_path / "z.txt").write_bytes(b"\xef\xbb\xbfPlain\r\ntext.\r\n")
    (tmp_path / "a.pdf").write_bytes(pdf("Ice is cold.", "On ice"))
    word = docx.Document()
    word.add_paragraph("Before")
    word.add_heading("On snow", 1)
    word.add_paragraph("Snow is white.")
    table = word.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    word.save(str(tmp_path / "c.docx"))
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("hidden")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.txt").write_text("hidden")
    found = {item.id: item for item in read_corpus(tmp_path)}
    assert sorted(found) == ["a.pdf", "b/deep er/note.md", "b/tea.HTML", "c.docx", "z.txt"]
    assert {item.id: item.title for item in found.values()} == {
        "a.pdf": "On ice",
        "b/deep er/note.md": "On *tea*",
        "b/tea.HTML": "Tea & ice",
        "c.docx": "On snow",
        "z.txt": "z",
    }
    assert found["z.txt"].text == "Plain\ntext."
    assert found["a.pdf"].text == "Ice is cold."
    assert found["b/tea.HTML"].text == "On tea\nTea is hot.\nVery.\none\ntwo"
    assert found["c.docx"].text == "Before\nOn snow\nSnow is white.\nleft\tright"
    assert found["b/tea.HTML"].metadata == {"path": "b/tea.HTML", "suffix": ".html"}


def test_the_order_is_that_of_the_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", "c/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [item.id for item in read_corpus(tmp_path)] == ["b.txt", "a/z.txt", "a/b/c.txt", "c/a.txt"]


def test_a_link_that_leads_in_a_circle_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [item.id for item in read_corpus(tmp_path)] == ["a.txt"]


def test_one_file_is_a_corpus_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    assert [item.id for item in read_corpus(tmp_path / "a.txt")] == ["a.txt"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("m.txt", b"caf\xe9", "not UTF-8"),
        ("m.txt", b"a\0b", "NUL"),
        ("m.txt", b" \n", "no text"),
        ("m.html", b"<title>only a title</title><body></body>", "no text"),
        ("m.html", b"\xff\xfe<\0p\0>\0", "not UTF-8"),
        ("m.pdf", b"%PDF-1.4 torn", "PDF cannot be read"),
        ("m.pdf", b"", "PDF cannot be read"),
        ("m.pdf", pdf("x")[:200], "cannot be read|no text"),
        ("m.pdf", pdf(""), "no text"),
        ("m.docx", b"PK\x03\x04 torn", "Word file cannot be read"),
        ("m.docx", b"plain", "Word file cannot be read"),
    ],
)
def test_a_bad_file_is_named_and_can_be_left_out(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    pytest.importorskip("docx")
    pytest.importorskip("pypdf")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / name).write_bytes(data)
    (tmp_path / "z.txt").write_text("last")
    with pytest.raises(RecordError, match=words) as caught:
        list(read_corpus(tmp_path))
    assert caught.value.path == str(tmp_path / name)
    skipped = Skipped()
    assert [item.id for item in read_corpus(tmp_path, skipped=skipped)] == ["a.txt", "z.txt"]
    assert skipped.count == 1


def test_an_encrypted_pdf_is_named(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    (tmp_path / "open.pdf").write_bytes(pdf("secret"))
    writer = pypdf.PdfWriter(clone_from=tmp_path / "open.pdf")
    writer.encrypt("password", algorithm="RC4-128")
    (tmp_path / "locked.pdf").write_bytes(b"")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(RecordError, match="encrypted"):
        list(read_corpus(tmp_path / "locked.pdf"))


@pytest.mark.parametrize(("name", "package"), [("a.pdf", "pypdf"), ("a.docx", "docx")])
def test_a_missing_extra_is_named_even_when_skipping(
    tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"retgen\[documents\]"):
        list(read_corpus(tmp_path, skipped=Skipped()))


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FormatError, match="nothing that can be read"):
        read_corpus(tmp_path)
    with pytest.raises(FormatError, match=r"\.txt"):
        folder.read_documents(tmp_path)


@pytest.mark.parametrize(
    ("source", "title", "text"),
    [
        ("plain words", "", "plain words"),
        ("<h2>A <i>b</i></h2><p>c", "A b", "A b\nc"),
        ("<title>t</title>no body tag", "t", "no body tag"),
        ("<head><title>t<body>broken head", "t", "broken head"),
        ("<body>a<script>if (a<b) {}</script>c<style>x{}</style></body>", "", "ac"),
        ("<p>a</p></script></title>b", "", "a\nb"),
        ("a&nbsp;&lt;b&gt; &#8364; &unknown;", "", "a <b> € &unknown;"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</table>", "", "1 2\n3"),
        ("<svg><title>icon</title></svg><title>page</title>x", "page", "x"),
        ("a<br>b<br/>c<hr>d", "", "a\nb\nc\nd"),
        ("<!-- hidden <p>x</p> -->seen<!doctype html>", "", "seen"),
        ("<noscript>turn it on</noscript>seen", "", "seen"),
    ],
)
def test_html_as_a_reader_sees_it(source: str, title: str, text: str) -> None:
    assert html_text.extract(source) == (title, text)


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("# One\ntext", "One"),
        ("text\n\n## Two ##\n", "Two"),
        ("Three\n=====\ntext", "Three"),
        ("```\n# not me\n```\n# Me", "Me"),
        ("no heading", "note"),
        ("#hashtag only", "note"),
    ],
)
def test_titles_of_markdown(tmp_path: Path, source: str, title: str) -> None:
    (tmp_path / "note.md").write_text(source)
    assert next(read_corpus(tmp_path)).title == title
