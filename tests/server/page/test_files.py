"""The files of the page: how they are served, and what they must not hold. Needs no browser."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from hatchling.builders.wheel import WheelBuilder

from retgen.server.page import page_files
from tests.server.serving import Client

SCRIPTS = sorted(name for name in page_files() if name.endswith(".js"))


def get(client: Client, path: str, **headers: str) -> httpx2.Response:
    return client.http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_the_page_may_load_nothing_but_its_own_files(plain: Client) -> None:
    page = get(plain, "/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    policies = page.headers.get_list("content-security-policy")
    rules = dict(rule.strip().split(" ", 1) for policy in policies for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert rules["trusted-types"] == "'none'"
    assert "unsafe" not in " ".join(policies)


def test_every_file_has_its_type_and_is_asked_for_anew(plain: Client) -> None:
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name, file in page_files().items():
        if name == "index.html":
            continue
        found = get(plain, f"/page/{name}")
        assert (found.status_code, found.content) == (200, file.body)
        assert found.headers["content-type"].partition(";")[0] == types[name.rpartition(".")[2]]
        assert found.headers["cache-control"] == "no-cache"
        assert found.headers["x-content-type-options"] == "nosniff"
        again = get(plain, f"/page/{name}", If_None_Match=found.headers["etag"])
        assert (again.status_code, again.content) == (304, b"")
        assert get(plain, f"/page/{name}", If_None_Match='"another"').status_code == 200
    head = plain.http.head("/page/main.js")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/page/", "/page/index.html", "/page/none.js", "/page/..%2fpage.py", "/page/%2e%2e/app.py", "/page/a/b.js"]
)
def test_nothing_else_can_be_had(plain: Client, path: str) -> None:
    found = get(plain, path)
    assert found.status_code == 404
    assert found.json()["error"]["type"] == "not_found"


def test_the_page_is_no_part_of_the_api(plain: Client) -> None:
    assert not [path for path in plain.get("/openapi.json")["paths"] if path == "/" or "page" in path]


def test_modules_name_only_files_that_are_there() -> None:
    files = page_files()
    page = files["index.html"].body.decode()
    named = re.findall(r'(?:src|href)="page/([^"]+)"', page)
    for name in SCRIPTS:
        named += re.findall(r'from "\./([^"]+)"', files[name].body.decode())
    assert set(named) == set(files) - {"index.html"}


def test_no_file_names_another_host_or_makes_markup_of_data() -> None:
    for name, file in page_files().items():
        text = file.body.decode()
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
        assert hosts <= {"http://www.w3.org"}, name  # the name of SVG's vocabulary, which nobody loads
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser", "style="):
            assert way not in text, f"{name}: {way}"


def test_the_page_ships_in_the_wheel() -> None:
    root = Path(__file__).parents[3]
    shipped = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    assert {f"retgen/server/static/{name}" for name in page_files()} <= shipped
