"""Documents on the page: added, found, shown as text whatever is in them, and removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from retgen import almanac
from retgen.index import Index
from tests.server.page.visiting import LAOS, REFUSED, Visit
from tests.server.serving import Client, opened, running

Visitor = Callable[..., Visit]
HOSTILE = (
    "<script>window.hit = 1; document.title = 'hit'</script><img src=x onerror=\"window.hit = 2\">"
    "<svg onload='window.hit = 3'></svg><a href='javascript:window.hit=4'>zorblax</a> &lt;b&gt; &amp; "
    "The zorblax was discovered by <b>Quentin</b> in 1931."
)
TITLE = "<img src=x onerror='window.hit = 5'>Zorblax"


def add(page: Page, text: str, title: str = "", id: str = "", replace: bool = False) -> None:
    page.fill("#new-title", title)
    page.fill("#new-text", text)
    page.fill("#new-id", id)
    page.set_checked("#new-replace", replace)
    with page.expect_response(lambda response: response.request.method == "POST"):
        page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_selector(".note > *")


def test_a_document_comes_is_found_and_goes(own_index: Path, visit: Visitor) -> None:
    with running(opened(own_index)) as (url, _):
        there = visit(url)
        page = there.open("#documents")
        page.wait_for_selector(".document")
        add(page, "Vientiane has a museum of quokkas.", "Quokkas", "notes/quokkas")
        assert "Added notes/quokkas" in page.locator(".note").inner_text()
        page.wait_for_selector(".document.new")
        assert page.locator(".document.new").get_attribute("data-id") == "notes/quokkas"
        assert "61 documents" in page.locator("#served").inner_text()
        page.click("#to-ask")
        there.ask("where is the museum of quokkas?")
        assert there.passages()[0] == "notes/quokkas"
        page.click("#to-documents")
        page.click('.document[data-id="notes/quokkas"] .opener')
        assert page.locator("dialog .whole").inner_text() == "Vientiane has a museum of quokkas."
        page.keyboard.press("Escape")
        page.click('.document[data-id="notes/quokkas"] .remove')
        page.get_by_role("button", name="Keep it").click()
        assert Client(url).get("/v1/documents/notes/quokkas")["title"] == "Quokkas"
        page.click('.document[data-id="notes/quokkas"] .remove')
        page.get_by_role("button", name="Remove it").click()
        page.wait_for_selector('.document[data-id="notes/quokkas"]', state="detached")
        assert "60 documents" in page.locator("#served").inner_text()
        Client(url).get("/v1/documents/notes/quokkas", 404)
        page.click("#to-ask")
        there.ask("quokkas")
        assert there.passages() == []


def test_documents_are_text_whatever_they_say(own_index: Path, visit: Visitor) -> None:
    with running(opened(own_index)) as (url, _):
        there = visit(url)
        page = there.open("#documents")
        page.wait_for_selector(".document")
        add(page, HOSTILE, TITLE, "<i>bad</i>")
        page.wait_for_selector(".document.new")
        assert page.locator(".document.new .opener").inner_text() == TITLE
        assert HOSTILE.startswith(page.locator(".document.new p").first.inner_text().removesuffix("…"))
        page.click(".document.new .opener")
        assert page.locator("dialog h2").inner_text() == TITLE
        assert page.locator("dialog .whole").inner_text() == HOSTILE
        page.keyboard.press("Escape")
        page.click("#to-ask")
        there.ask("who discovered the zorblax?")
        assert there.passages()[0] == "<i>bad</i>"
        page.locator(".passage .opener").first.click()
        page.wait_for_selector(".heat")
        assert page.locator(".passage .text").first.text_content() == HOSTILE
        assert page.locator("#column-retrieved .title").first.inner_text() == TITLE
        assert TITLE in page.locator(".source").first.inner_text()
        assert page.locator("main :is(img, script, a, b, i)").count() == 0
        assert page.evaluate("window.hit") is None
        assert page.title() != "hit"


def test_markup_made_of_text_is_refused_by_the_browser_itself(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    there.expected = "TrustedHTML"
    page = there.open()
    refused = page.evaluate(
        "() => { try { document.body.innerHTML = '<p>x'; return 'let through' } catch (error) { return error.name } }"
    )
    assert refused == "TypeError"


def test_a_refusal_is_shown_and_what_was_written_stays(own_index: Path, visit: Visitor) -> None:
    with running(opened(own_index)) as (url, _):
        there = visit(url)
        there.expected = REFUSED
        page = there.open("#documents")
        page.wait_for_selector(".document")
        add(page, "A country once more.", id="country/laos")
        assert "already" in page.locator(".note .failure").inner_text()
        assert page.input_value("#new-text") == "A country once more."
        add(page, "A country once more.", id="country/laos", replace=True)
        page.wait_for_selector(".note .done")
        assert "Replaced country/laos" in page.locator(".note").inner_text()
        assert Client(url).get("/v1/documents/country/laos")["text"] == "A country once more."


def test_marks_count_characters_as_the_server_does(own_index: Path, visit: Visitor) -> None:
    with running(opened(own_index)) as (url, _):
        client = Client(url)
        text = "😀👩‍🚀𝔷 The zorblax was discovered by Quentin Xavier in 1931. 🎉"
        client.post("/v1/documents", {"documents": [{"id": "z", "text": text}]}, 201)
        (citation,) = client.post("/v1/answer", {"question": "who discovered the zorblax?"})["citations"]
        assert citation["start"] > 0
        there = visit(url)
        there.open()
        there.ask("who discovered the zorblax?")
        assert there.texts(".citations mark") == there.texts(".passage mark") == [citation["text"]]


def test_pages_of_the_list(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    page = there.open("#documents")
    page.wait_for_selector(".document")
    listed = [document["id"] for document in plain.get("/v1/documents?limit=60")["documents"]]

    def shown() -> list[str]:
        found: list[str] = page.eval_on_selector_all(".document", "rows => rows.map(row => row.dataset.id)")
        return found

    assert shown() == listed[:20]
    assert page.get_by_role("button", name="Previous").is_disabled()
    for start in (20, 40):
        page.get_by_role("button", name="Next").click()
        page.wait_for_selector(f'.document[data-id="{listed[start]}"]')
        assert shown() == listed[start : start + 20]
    assert page.get_by_role("button", name="Next").is_disabled()
    assert page.locator(".pager .quiet").inner_text() == "41 to 60 of 60"


def test_ids_of_all_kinds_can_be_opened_and_removed(own_index: Path, visit: Visitor) -> None:
    ids = ["a/../b", "ö ü?#%", "..%2fx"]
    with running(opened(own_index)) as (url, _):
        Client(url).post("/v1/documents", {"documents": [{"id": id, "text": "A text."} for id in ids]}, 201)
        there = visit(url)
        page = there.open("#documents")
        # Quicker than the pages come.
        for _ in range(3):
            page.get_by_role("button", name="Next").click()
        for left, id in zip((3, 2, 1), ids, strict=True):
            expect(page.locator(".document")).to_have_count(left)
            row = page.locator(".document").first
            row.locator(".opener").click()
            expect(page.locator("dialog dd.id")).to_have_text(id)
            page.get_by_role("button", name="Close").click()
            row.locator(".remove").click()
            page.get_by_role("button", name="Remove it").click()
            expect(page.locator("#served")).to_contain_text(f"{59 + left} documents")
        assert Client(url).get("/v1/documents?limit=1")["total"] == 60


def test_a_chunked_index_shows_passages_of_documents(tmp_path: Path, visit: Visitor) -> None:
    Index.build(almanac.documents()[:20], tmp_path / "chunked", chunk_words=20)
    with running(opened(tmp_path / "chunked")) as (url, _):
        there = visit(url)
        page = there.open()
        assert "20 documents" in page.locator("#served").inner_text()
        there.ask()
        cited = Client(url).post("/v1/answer", {"question": LAOS})["citations"][0]
        assert cited["passage_id"] != cited["doc_id"]
        page.click(".source")
        page.wait_for_selector(".heat")
        assert page.locator(".passage:has([aria-expanded=true])").get_attribute("data-id") == cited["passage_id"]
        page.click("#to-documents")
        page.locator(f'.document[data-id="{cited["doc_id"]}"] .opener').click()
        whole = Client(url).get(f"/v1/documents/{cited['doc_id']}")
        expect(page.locator("dialog .whole")).to_have_text(whole["text"])
        expect(page.locator("dialog .about dd").last).to_have_text(str(len(whole["passages"])))
