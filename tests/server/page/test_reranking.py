"""A pipeline with JPR on the page: columns, lines, bars, heat; and λ, which re-orders as the server would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.server.page.visiting import LAOS, Visit
from tests.server.serving import Client

WEIGHTS = (0.0, 0.13, 0.5, 0.86, 1.0)


@pytest.fixture
def asked(joint: Client, visit: Callable[..., Visit]) -> Visit:
    there = visit(str(joint.http.base_url))
    there.open()
    there.ask()
    return there


def at(joint: Client, weight: float) -> dict[str, Any]:
    return joint.post("/v1/answer", {"question": LAOS, "generator_weight": weight})


def test_the_columns_are_the_servers(joint: Client, asked: Visit) -> None:
    said = joint.post("/v1/answer", {"question": LAOS})
    assert said["columns"]["retrieved"] != said["columns"]["reranked"]
    for name in ("retrieved", "reranked", "used"):
        assert asked.column(name) == said["columns"][name]
    assert asked.passages() == said["columns"]["reranked"]
    # One line for each passage to its new place, one for each that is read.
    lines = asked.page.locator(".lines path")
    assert lines.count() == len(said["columns"]["retrieved"]) + len(said["columns"]["used"])
    for passage in said["passages"]:
        rose = passage["rank_retrieved"] - passage["rank_reranked"]
        box = asked.page.locator(f'#column-reranked [data-passage="{passage["passage_id"]}"]')
        assert box.locator(".move").inner_text() == ("=" if rose == 0 else f"{'▲' if rose > 0 else '▼'} {abs(rose)}")
        line = asked.page.locator(f'.lines >> nth=0 >> [data-line="{passage["passage_id"]}"]')
        assert line.get_attribute("class") == ("same" if rose == 0 else "up" if rose > 0 else "down")


def test_bars_show_every_component(joint: Client, asked: Visit) -> None:
    said = joint.post("/v1/answer", {"question": LAOS})
    for name in ("bm25", "cross_encoder", "generator", "joint"):
        values = [passage["components"][name] for passage in said["passages"]]
        rows = asked.page.locator(f'.passage [data-component="{name}"]')
        shown = [float(text.replace("−", "-")) for text in rows.locator(".number").all_inner_texts()]
        assert shown == pytest.approx(values, abs=0.006)
        widths = rows.locator(".fill").evaluate_all(
            "bars => bars.map(bar => Number(bar.style.getPropertyValue('--share')))"
        )
        low, high = min(values), max(values)
        assert widths == pytest.approx([(value - low) / (high - low) for value in values], abs=1e-3)


def test_moving_lambda_orders_as_the_server_does(joint: Client, asked: Visit) -> None:
    orders = set()
    for weight in WEIGHTS:
        said = at(joint, weight)
        asked.page.locator("#weight").fill(str(weight))
        assert asked.page.locator("#weight-value").inner_text() == f"{weight:.2f}"
        assert asked.column("reranked") == said["columns"]["reranked"]
        assert asked.column("used") == said["columns"]["used"]
        assert asked.passages() == said["columns"]["reranked"]
        shown = asked.texts('.passage [data-component="joint"] .number')
        assert [float(text.replace("−", "-")) for text in shown] == pytest.approx(
            [passage["score"] for passage in said["passages"]], abs=0.006
        )
        orders.add(tuple(said["columns"]["reranked"]))
    assert len(orders) > 2


def test_the_answer_is_marked_as_of_another_lambda_and_can_be_asked_anew(joint: Client, asked: Visit) -> None:
    page = asked.page
    assert page.locator("#stale").is_hidden()
    page.locator("#weight").fill("0.9")
    assert "read at λ 0.50" in page.locator("#stale").inner_text()
    page.get_by_role("button", name="Back to 0.50").click()
    assert page.locator("#stale").is_hidden()
    assert asked.passages() == at(joint, 0.5)["columns"]["reranked"]
    page.locator("#weight").fill("0.9")
    with page.expect_response(lambda response: response.url.endswith("/v1/answer")) as heard:
        page.get_by_role("button", name="Ask again at λ 0.90").click()
    assert heard.value.json()["weights"]["generator"] == pytest.approx(0.9)
    expect(page.locator("#weight")).to_have_value("0.9")
    page.wait_for_selector("#stale", state="hidden")
    said = at(joint, 0.9)
    assert page.locator("#answer-text").inner_text() == said["answer"]
    assert asked.passages() == said["columns"]["reranked"]


def test_a_passage_explains_itself_part_by_part(joint: Client, asked: Visit) -> None:
    page = asked.page
    page.locator(".passage .opener").first.click()
    page.wait_for_selector(".heat")
    told = joint.post("/v1/explain", {"query": LAOS, "doc_id": asked.passages()[0]})
    parts = {part["part"]: part for part in told["parts"]}
    generator = page.locator('.heat[data-part="generator"] .chips li')
    assert generator.count() == len(parts["generator"]["tokens"])
    heats = generator.evaluate_all("tokens => tokens.map(token => Number(token.style.getPropertyValue('--heat')))")
    scores = [token["score"] for token in parts["generator"]["tokens"]]
    assert heats == pytest.approx([max(0, 1 + score / 8) for score in scores], abs=2e-3)
    words = page.locator('.heat[data-part="cross_encoder"] .words span')
    assert words.all_inner_texts() == [token["text"] for token in parts["cross_encoder"]["tokens"]]
    assert page.locator('.heat[data-part="bm25"] .chips li').count() == len(parts["bm25"]["tokens"])


def test_opened_passages_and_the_focus_outlive_lambda(asked: Visit) -> None:
    page = asked.page
    page.locator(".passage .opener").first.click()
    page.wait_for_selector(".heat")
    first = asked.passages()[0]
    page.locator("#weight").focus()
    for _ in range(4):
        page.keyboard.press("PageUp")
    assert asked.focused() == "weight"
    assert page.locator(".passage:has([aria-expanded=true])").get_attribute("data-id") == first


def test_a_passage_is_lit_along_its_line(asked: Visit) -> None:
    name = asked.column("reranked")[0]
    asked.page.hover(f'#column-reranked [data-passage="{name}"]')
    lit = asked.page.eval_on_selector_all(
        ".columns .lit", "found => found.map(each => each.dataset.line ?? each.dataset.passage)"
    )
    assert set(lit) == {name}
    assert len(lit) == 5  # three boxes, two lines
