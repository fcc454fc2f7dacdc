"""Takes the pictures of docs/page.md from a running server that has a UniGen and a joint re-ranker.

    make serve-demo                                   # in one terminal
    python scripts/screenshots.py http://127.0.0.1:8000

Needs the ``dev`` extra and Debian's Chromium (``apt-get install chromium``).
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

QUESTION = "Which state is governed from Baku?"
DESKTOP, PHONE = (1280, 860), (375, 812)
LARGEST = 200_000


def ask(page: Page, question: str, *, retriever: str, rounds: int = 0) -> None:
    """Ask, and wait until the answer stands there."""
    page.get_by_label("Retriever").select_option(retriever)
    if rounds:
        page.get_by_label("Further rounds").select_option(str(rounds))
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    page.wait_for_selector("#result[aria-busy=false]")
    page.evaluate("document.activeElement.blur()")


def columns(page: Page, question: str) -> None:
    """The answer, and how λ moved the passages."""
    ask(page, question, retriever="unigen")
    page.locator("#weight").fill("0.4")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")


def heat(page: Page, question: str) -> None:
    """A passage with its scores, and why."""
    ask(page, question, retriever="unigen")
    page.locator(".source").first.click()
    page.wait_for_selector(".heat")
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.querySelector('#passages').scrollIntoView({behavior: 'instant'})")


def rounds(page: Page, question: str) -> None:
    """UniGen's second round."""
    ask(page, question, retriever="unigen", rounds=2)


SHOTS: dict[str, tuple[Callable[[Page, str], None], tuple[int, int], str]] = {
    "page-columns": (columns, (DESKTOP[0], 1150), "light"),
    "page-heat": (heat, DESKTOP, "dark"),
    "page-rounds": (rounds, (DESKTOP[0], 970), "light"),
    "page-phone": (columns, PHONE, "light"),
}


def shoot(browser: Browser, url: str, name: str, question: str, out: Path) -> None:
    """One picture."""
    prepare, (width, height), scheme = SHOTS[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        device_scale_factor=2 if width < 500 else 1,
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("#welcome ol")
    prepare(page, question)
    page.mouse.move(0, 0)
    path = out / f"{name}.png"
    page.screenshot(path=path)
    context.close()
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, and a picture may have {LARGEST}")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the server, as retgen serve tells it")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "images")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no Chromium: apt-get install chromium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as started:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = started.chromium.launch(executable_path=chromium, args=root)
        for name in SHOTS:
            shoot(browser, arguments.url, name, arguments.question, arguments.out)
        browser.close()


if __name__ == "__main__":
    main()
