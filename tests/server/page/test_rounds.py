"""UniGen's rounds on the page, as tabs."""

from __future__ import annotations

from collections.abc import Callable

from tests.server.page.visiting import Visit
from tests.server.serving import Client
from tests.train.toy import QUESTIONS

QUESTION = QUESTIONS[0].text


def test_rounds_are_tabs(rounds_url: str, visit: Callable[..., Visit]) -> None:
    there = visit(rounds_url)
    page = there.open()
    page.select_option("#rounds-wanted", "1")
    there.ask(QUESTION)
    said = Client(rounds_url).post("/v1/answer", {"question": QUESTION, "rounds": 1})
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == ["Round 0", "Round 1"]
    assert page.get_by_role("tab", selected=True).inner_text() == "Round 1"
    for number, told in enumerate(said["rounds"]):
        tabs.nth(number).click()
        panel = page.get_by_role("tabpanel")
        assert panel.count() == 1
        assert panel.get_attribute("id") == f"round-{number}"
        assert panel.locator("strong").inner_text() == (told["answer"] or "none")
        assert panel.locator(".input").text_content() == told["input"]
        assert panel.locator(".title").all_inner_texts() == [hit["title"] for hit in told["hits"][:10]]
    # The keys of a tab list.
    for key, number in (("ArrowRight", 0), ("ArrowLeft", 1), ("Home", 0), ("End", 1)):
        page.keyboard.press(key)
        assert there.focused() == f"round-tab-{number}"
        assert page.get_by_role("tab", selected=True).get_attribute("id") == f"round-tab-{number}"
    assert page.locator("[role=tab][tabindex='0']").count() == 1


def test_one_round_has_no_tabs(rounds_url: str, visit: Callable[..., Visit]) -> None:
    there = visit(rounds_url)
    page = there.open()
    there.ask(QUESTION)
    assert page.get_by_role("tab").count() == 0
    # It answers without reading: what is cited was found beside the answer.
    said = Client(rounds_url).post("/v1/answer", {"question": QUESTION})
    assert there.column("used") == [citation["passage_id"] for citation in said["citations"]]


def test_rounds_are_offered_to_unigen_alone(rounds_url: str, visit: Callable[..., Visit]) -> None:
    there = visit(rounds_url)
    page = there.open()
    page.select_option("#rounds-wanted", "1")
    page.get_by_label("Retriever").select_option("bm25")
    assert page.locator("#rounds-wanted").is_disabled()
    there.ask(QUESTION)
    assert page.get_by_role("tab").count() == 0
    assert "BM25" in page.locator("[data-column=retrieved] h3").inner_text()


def test_documents_that_cannot_be_changed_say_why(rounds_url: str, visit: Callable[..., Visit]) -> None:
    there = visit(rounds_url)
    page = there.open("#documents")
    page.wait_for_selector(".document")
    assert "cannot be changed" in page.locator(".fixed").inner_text()
    assert page.locator(".add, .remove").count() == 0
