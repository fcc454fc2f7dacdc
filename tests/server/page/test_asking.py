"""A question on the page, over an index without models: the answer, its source, its passages, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.server.page.visiting import LAOS, REFUSED, Visit
from tests.server.serving import Client, opened, running

Visitor = Callable[..., Visit]


def test_an_answer_is_shown_with_its_source_and_passages(plain: Client, visit: Visitor) -> None:
    said = plain.post("/v1/answer", {"question": LAOS})
    there = visit(str(plain.http.base_url))
    page = there.open()
    assert page.locator("#welcome").is_visible()
    assert "60 documents" in page.locator("#served").inner_text()
    assert there.focused() == "question"
    there.ask()
    assert page.locator("#answer-text").inner_text() == said["answer"]
    (citation,) = said["citations"]
    assert there.texts(".citations mark") == [citation["text"]]
    assert there.passages() == said["columns"]["retrieved"][:10]
    assert there.column("retrieved") == said["columns"]["retrieved"][:10]
    assert there.column("used") == said["columns"]["used"]
    # Nothing re-ranks here, so that there is nothing to weigh.
    assert page.locator("#column-reranked, #weight").count() == 0
    assert page.locator(".lines path").count() == len(said["columns"]["used"])
    assert not page.locator("#rounds").is_visible()
    assert page.locator("#status").inner_text().startswith(f"Answer: {said['answer']}.")


def test_a_source_opens_its_passage_and_says_why(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    page = there.open()
    there.ask()
    page.click(".source")
    opened_one = page.locator(".passage:has([aria-expanded=true])")
    cited = plain.post("/v1/answer", {"question": LAOS})["citations"][0]
    assert opened_one.get_attribute("data-id") == cited["passage_id"]
    passage = plain.get(f"/v1/documents/{cited['doc_id']}")
    assert opened_one.locator(".text").text_content() == passage["text"]
    (part,) = plain.post("/v1/explain", {"query": LAOS, "doc_id": cited["passage_id"]})["parts"]
    page.wait_for_selector(".heat")
    assert there.texts(".heat .token") == [token["text"] for token in part["tokens"]]
    shown = [float(number.replace("−", "-")) for number in there.texts(".chips .number")]
    assert shown == [round(token["score"], 2) for token in part["tokens"]]


def test_a_question_is_in_the_address_and_comes_back(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    page = there.open()
    there.ask()
    first = page.locator("#answer-text").inner_text()
    there.ask("What is the capital of Vietnam?")
    assert page.locator("#answer-text").inner_text() != first
    page.go_back()
    expect(page.locator("#answer-text")).to_have_text(first)
    assert page.input_value("#question") == LAOS
    page.reload()
    page.wait_for_selector("#answer-text")
    assert page.locator("#answer-text").inner_text() == first


def test_a_question_without_hits_says_so(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    page = there.open()
    there.ask("zzzz qqqq")
    assert "No answer" in page.locator("#answer-text").inner_text()
    assert not page.locator("#way").is_visible()
    assert not page.locator("#passages").is_visible()


def test_more_passages_come_ten_by_ten(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    page = there.open()
    page.fill("#reads", "14")
    there.ask("the capital of the country")
    assert len(there.passages()) == 10
    page.click("#passages .more")
    assert len(there.passages()) == 14
    assert page.locator("#passages .more").is_hidden()
    assert len(there.column("retrieved")) == 10
    page.click("#way .more")
    assert len(there.column("retrieved")) == len(there.column("used")) == 14


def test_a_failure_is_shown_with_its_mend(index: Path, visit: Visitor) -> None:
    with running(opened(index), limits={"deadline_seconds": 0.0001}) as (url, _):
        there = visit(url)
        there.expected = REFUSED
        page = there.open()
        there.ask()
        told = page.locator(".failure").inner_text()
        assert "deadline" in told or "time" in told
        assert "Request " in told
        assert page.locator("#result").is_hidden()
        assert page.get_by_role("button", name="Try again").is_visible()


def test_a_server_that_is_gone_is_told_from_one_that_refuses(plain: Client, visit: Visitor) -> None:
    there = visit(str(plain.http.base_url))
    there.expected = REFUSED
    page = there.open()
    page.context.set_offline(True)
    page.fill("#question", LAOS)
    page.keyboard.press("Enter")
    page.wait_for_selector(".failure")
    assert "does not answer" in page.locator(".failure").inner_text()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#result:not([hidden]) #answer-text")
    assert page.locator(".failure").count() == 0
