"""A visit to the page in a real browser: what it asked for and complained about is kept, and judged at its end."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Page, Request

LAOS = "What is the capital of Laos?"
"""A question of the almanac that all servers here are asked."""
REFUSED = "Failed to load resource"
"""What Chromium's console says of every response with a status of 400 or more."""


class Visit:
    """One browser context with one page.

    Args:
        page: blank as yet.
        url: of the server.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.expected = ""
        """A part of the complaints that the test itself provokes."""
        self._complaints: list[str] = []
        self._asked_for: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("request", self._saw)

    def open(self, place: str = "") -> Page:
        """The page, or what it has behind ``#``, when it knows what is served."""
        self.page.goto(f"{self.url}/{place}")
        self.page.wait_for_selector("#served:not(:empty), #key-form:not([hidden]), .failure")
        return self.page

    def ask(self, question: str = LAOS) -> Page:
        """Ask as a person does, and wait for the answer."""
        with self.page.expect_response(lambda response: response.url.endswith("/v1/answer")):
            self.page.fill("#question", question)
            self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#result[aria-busy=false], #ask-failure .failure")
        return self.page

    def texts(self, selector: str) -> list[str]:
        """The texts of all that match."""
        return self.page.locator(selector).all_inner_texts()

    def column(self, name: str) -> list[str]:
        """Passage ids of a column, from the top."""
        found: list[str] = self.page.eval_on_selector_all(
            f"#column-{name} [data-passage]", "boxes => boxes.map(box => box.dataset.passage)"
        )
        return found

    def passages(self) -> list[str]:
        """Ids of the passages below, from the top."""
        found: list[str] = self.page.eval_on_selector_all(".passage", "rows => rows.map(row => row.dataset.id)")
        return found

    def focused(self, script: str = "element => element.id") -> Any:
        """Something of the element that has the focus."""
        return self.page.evaluate(f"({script})(document.activeElement)")

    def judge(self) -> None:
        """No complaint in the console, and no request to anyone else."""
        assert not self._complaints, self._complaints
        own = urlsplit(self.url).netloc
        others = [url for url in self._asked_for if urlsplit(url).netloc != own]
        assert self._asked_for, "nothing was asked for"
        assert not others, others

    def _heard(self, message: ConsoleMessage) -> None:
        expected = self.expected and self.expected in message.text
        if message.type in ("error", "warning") and not expected:
            self._complaints.append(message.text)

    def _saw(self, request: Request) -> None:
        self._asked_for.append(request.url)
