"""A real Chromium for the tests of the page, which skip where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from retgen.generative.unigen import UniGenSettings
from retgen.index import Index
from tests.server.page.visiting import Visit
from tests.server.serving import opened, running
from tests.train.toy import DOCUMENTS, toy_system


# Not of the session: as long as it lasts, no other test of its process could run an event loop.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium to show the page in: apt-get install chromium")
    # Chromium's sandbox does not start for root, as which containers run.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as started:
        made = started.chromium.launch(executable_path=path, args=arguments)
        yield made
        made.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """``visit(url, **context options)``; every visit is judged when the test has ended."""
    made: list[Visit] = []

    def begin(url: str, **options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(20_000)
        made.append(Visit(context.new_page(), url))
        return made[-1]

    yield begin
    for each in made:
        each.page.context.close()
        each.judge()


@pytest.fixture(scope="package")
def rounds_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a UniGen that can be asked for further rounds."""
    home = tmp_path_factory.mktemp("rounds")
    index = Index.build(DOCUMENTS, home / "index")
    settings = UniGenSettings(max_input_tokens=96, context="offline:bm25-context")
    toy_system(settings=settings, fingerprint=index.corpus.fingerprint).save(home / "model")
    with running(opened(home / "index", model=home / "model")) as (url, _):
        yield url


@pytest.fixture
def own_index(index: Path, tmp_path: Path) -> Path:
    """A copy of the index, whose documents a test may change."""
    return Path(shutil.copytree(index, tmp_path / "own"))
