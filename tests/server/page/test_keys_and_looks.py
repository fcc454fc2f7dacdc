"""The page for everyone: by keyboard alone, on a phone, in the dark, behind a key, and for axe-core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from retgen.server import AccessSettings
from tests.server.page.visiting import LAOS, REFUSED, Visit
from tests.server.serving import Client, opened, running
from tests.train.toy import QUESTIONS

Visitor = Callable[..., Visit]
KEY = "correct-horse-battery"


def faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical, with where it is."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(joint: Client, rounds_url: str, visit: Visitor, scheme: str) -> None:
    there = visit(str(joint.http.base_url), color_scheme=scheme, reduced_motion="reduce")
    page = there.open()
    page.wait_for_selector("#welcome ol")
    assert faults(page) == []
    there.ask()
    page.locator(".passage .opener").first.click()
    page.wait_for_selector(".heat")
    page.locator("#weight").fill("0.9")
    assert faults(page) == []
    page.click("#to-documents")
    page.wait_for_selector(".document")
    assert faults(page) == []
    page.locator(".document .opener").first.click()
    page.wait_for_selector("dialog[open]")
    assert faults(page) == []
    rounds = visit(rounds_url, color_scheme=scheme, reduced_motion="reduce")
    rounds.open()
    rounds.page.select_option("#rounds-wanted", "1")
    rounds.ask(QUESTIONS[0].text)
    assert faults(rounds.page) == []


def test_axe_can_find_something(joint: Client, visit: Visitor) -> None:
    page = visit(str(joint.http.base_url)).open()
    page.evaluate("document.querySelector('label[for=question]').remove()")
    page.evaluate("document.querySelector('#question').removeAttribute('placeholder')")
    assert any(fault.startswith("label") for fault in faults(page))


def test_everything_can_be_done_by_keyboard(joint: Client, visit: Visitor) -> None:
    there = visit(str(joint.http.base_url))
    page = there.open()
    page.evaluate("document.activeElement.blur()")

    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    press("/")
    assert there.focused() == "question"
    page.keyboard.type(LAOS)
    with page.expect_response(lambda response: response.url.endswith("/v1/answer")):
        press("Enter")
    page.wait_for_selector("#result[aria-busy=false]")
    opener = "element => element.closest('.passage')?.dataset.id"
    names = there.passages()
    press("ArrowDown")
    assert there.focused(opener) == names[0]
    press("ArrowDown", "ArrowDown")
    assert there.focused(opener) == names[2]
    press("ArrowUp")
    assert there.focused(opener) == names[1]
    press("Enter")
    page.wait_for_selector(".heat")
    assert there.focused("element => element.getAttribute('aria-expanded')") == "true"
    press("Escape")
    assert there.focused("element => element.getAttribute('aria-expanded')") == "false"
    assert there.focused(opener) == names[1]
    press("End")
    assert there.focused(opener) == names[-1]
    press("Escape")
    assert there.focused() == "question"
    # On with Tab: the button, the passages to read, the sources, λ, and the columns, each one stop.
    for _ in range(20):
        press("Tab")
        if there.focused() == "weight":
            break
    assert there.focused() == "weight"
    press("End")
    assert page.locator("#weight-value").inner_text() == "1.00"
    for _ in range(20):
        press("Tab")
        if there.focused("element => element.closest('#column-retrieved') !== null"):
            break
    box = "element => [element.closest('ol').id, element.dataset.passage]"
    first, second, *_ = there.column("retrieved")
    assert there.focused(box) == ["column-retrieved", first]
    press("ArrowDown")
    assert there.focused(box) == ["column-retrieved", second]
    press("ArrowRight")
    assert there.focused(box) == ["column-reranked", second]
    press("ArrowLeft")
    assert there.focused(box) == ["column-retrieved", second]
    press("Enter")
    assert there.focused(opener) == second
    assert there.focused("element => element.getAttribute('aria-expanded')") == "true"
    press("/")
    assert there.focused() == "question"


def test_the_focus_can_be_seen(joint: Client, visit: Visitor) -> None:
    there = visit(str(joint.http.base_url))
    page = there.open()
    there.ask()
    seen = 0
    for _ in range(30):
        page.keyboard.press("Tab")
        style = there.focused("element => [element.tagName, getComputedStyle(element).outlineStyle]")
        if style[0] == "BODY":
            break
        assert style[1] == "solid", style
        seen += 1
    assert seen > 10


@pytest.mark.parametrize("width", [320, 375])
def test_small_screens_scroll_one_way_alone(joint: Client, rounds_url: str, visit: Visitor, width: int) -> None:
    def fits(page: Page) -> bool:
        found: bool = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        return found

    phone: dict[str, Any] = {"viewport": {"width": width, "height": 740}, "has_touch": True}
    there = visit(str(joint.http.base_url), **phone)
    page = there.open()
    assert fits(page)
    there.ask()
    page.locator(".passage .opener").first.click()
    page.wait_for_selector(".heat")
    page.locator("#weight").fill("0.8")
    assert fits(page)
    boxes = [page.locator(f"[data-column={name}]").bounding_box() for name in ("retrieved", "reranked", "used")]
    tops = [box["y"] for box in boxes if box is not None]
    assert len(tops) == 3
    assert tops == sorted(set(tops))
    assert page.locator(".lines").first.is_hidden()
    page.click("#to-documents")
    page.wait_for_selector(".document")
    assert fits(page)
    page.locator(".document .opener").first.click()
    assert fits(page)
    rounds = visit(rounds_url, **phone)
    rounds.open()
    rounds.page.select_option("#rounds-wanted", "1")
    rounds.ask(QUESTIONS[0].text)
    assert fits(rounds.page)


def test_colours_follow_the_system_or_the_choice(plain: Client, visit: Visitor) -> None:
    def dark(page: Page) -> bool:
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return max(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) < 64

    page = visit(str(plain.http.base_url), color_scheme="dark").open()
    assert dark(page)
    page.select_option("#theme", "light")
    assert not dark(page)
    page.reload()
    assert not dark(page)
    page.select_option("#theme", "system")
    assert dark(page)
    page = visit(str(plain.http.base_url), color_scheme="light").open()
    assert not dark(page)
    page.select_option("#theme", "dark")
    assert dark(page)


def test_nothing_moves_for_those_who_want_it_still(plain: Client, visit: Visitor) -> None:
    page = visit(str(plain.http.base_url), reduced_motion="reduce").open()
    moving = page.evaluate(
        "() => [...document.querySelectorAll('*')].map(each => getComputedStyle(each)).filter("
        "style => parseFloat(style.transitionDuration) > 0 || style.scrollBehavior === 'smooth').length"
    )
    assert moving == 0
    page.evaluate("document.querySelector('#ask-form').classList.add('busy')")
    name = page.evaluate("getComputedStyle(document.querySelector('#ask-form'), '::after').animationName")
    assert name == "none"


def test_a_key_is_asked_for_only_where_one_is_needed(index: Path, plain: Client, visit: Visitor) -> None:
    with running(opened(index), access=AccessSettings(keys=(KEY,))) as (url, _):
        there = visit(url)
        there.expected = REFUSED
        page = there.open()
        assert there.focused() == "key"
        assert faults(page) == []
        page.fill("#key", "a-wrong-key-altogether")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key[aria-invalid=true]")
        assert "not accepted" in page.locator("#key-note").inner_text()
        page.fill("#key", KEY)
        page.keyboard.press("Enter")
        page.wait_for_selector("#welcome ol")
        there.ask()
        assert page.locator("#answer-text").inner_text()
        kept = page.evaluate("[Object.values({...sessionStorage}), Object.values({...localStorage}), document.cookie]")
        assert kept == [[KEY], [], ""]
        page.reload()
        page.wait_for_selector("#answer-text")
        assert page.locator("#key-form").is_hidden()
    page = visit(str(plain.http.base_url)).open()
    assert page.locator("#key-form").is_hidden()
    assert page.evaluate("sessionStorage.length") == 0
