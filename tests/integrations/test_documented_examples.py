"""The examples of docs/integrations.md do what they show."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.rerank.classifiers import save_classifier

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "integrations.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
PACKAGES = {
    "retgen.integrations.langchain": "langchain_core",
    "retgen.integrations.llama_index": "llama_index.core",
    "retgen.integrations.haystack": "haystack",
    "retgen.integrations.pyterrier": "pyterrier",
    "retgen.integrations.hub": "",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, index_folder: Path) -> Path:
    """A folder with ``my-index`` and ``my-ce``, as the examples name them."""
    home = tmp_path_factory.mktemp("examples")
    shutil.copytree(index_folder, home / "my-index")
    save_classifier(home / "my-ce")
    return home


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda code: re.findall(r"retgen\.integrations\.(\w+)", code)[0])
def test_examples_run(example: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (room,) = {name for name in PACKAGES if name in example}
    if room == "retgen.integrations.hub":
        compile(example, "docs/integrations.md", "exec")  # it asks for a hub; see test_hub.py
        return
    pytest.importorskip(PACKAGES[room])
    monkeypatch.chdir(place)
    exec(compile(example, "docs/integrations.md", "exec"), {})


def test_every_adapter_has_an_example() -> None:
    assert {room for room in PACKAGES for example in EXAMPLES if room in example} == set(PACKAGES)
