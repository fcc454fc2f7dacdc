"""The package as a whole: a light import, public names that exist, one version, and documents whose code is code."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import retgen
from retgen import _PUBLIC
from retgen.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:|#)(?P<target>[^)#\s]+)")


def _fences(document: Path, *languages: str) -> list[str]:
    found = FENCE.finditer(document.read_text(encoding="utf-8"))
    return [textwrap.dedent(match["code"]) for match in found if match["language"] in languages]


def _modules_loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_loads_no_model_library() -> None:
    loaded = _modules_loaded_by("import retgen; dir(retgen); retgen.Document; retgen.RetgenError")
    assert "retgen" in loaded
    assert not loaded & {"torch", "transformers", "sentence_transformers", "faiss", "bm25s", "datasets"}


def test_every_public_name_resolves_to_what_its_room_holds() -> None:
    assert set(retgen.__all__) == {"__version__", *_PUBLIC}
    for name, room in _PUBLIC.items():
        assert getattr(retgen, name) is getattr(sys.modules[room], name)


def test_public_names_are_also_named_for_type_checkers() -> None:
    tree = ast.parse(Path(retgen.__file__).read_text(encoding="utf-8"))
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imported = {
        (alias.asname, statement.module)
        for block in guarded
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert imported == set(_PUBLIC.items())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        retgen.no_such_name  # noqa: B018


def test_dir_lists_the_public_names() -> None:
    assert set(retgen.__all__) <= set(dir(retgen))


def test_version_is_the_installed_one() -> None:
    assert retgen.__version__ == importlib.metadata.version("retgen")


def test_the_package_is_typed() -> None:
    assert (Path(retgen.__file__).parent / "py.typed").is_file()


def test_the_console_script_exists() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="retgen")
    assert callable(script.load())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_documents_parses_and_imports_what_exists(document: Path) -> None:
    for code in _fences(document, "python", "py"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "retgen":
                try:
                    module = importlib.import_module(node.module or "")
                except MissingExtraError:
                    continue  # an adapter to a framework that is not installed here
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{document.name}: {node.module} has no {alias.name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_in_documents_lead_somewhere(document: Path) -> None:
    for match in LINK.finditer(document.read_text(encoding="utf-8")):
        assert (document.parent / match["target"]).exists(), f"{document.name} links to {match['target']}"


def test_the_readme_shows_both_commands_and_python() -> None:
    readme = ROOT / "README.md"
    shell = "\n".join(_fences(readme, "sh"))
    assert "make demo" in shell
    assert "make test" in shell
    assert _fences(readme, "python")


def test_every_room_has_its_floor() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    floors = set(re.findall(r"\w+", " ".join(layers[0]["layers"])))
    inside = (ROOT / "src" / "retgen").iterdir()
    rooms = {path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert {"errors", "types"} <= rooms <= floors | {"__init__", "__main__"}


class TestLock:
    """requirements.lock covers what pyproject.toml asks for, and says nothing of where it was made."""

    LINES = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    PINS = tuple(line for line in LINES if not line.startswith("#"))

    def test_torch_comes_first(self) -> None:
        assert self.PINS[0].startswith("torch==")

    def test_every_line_is_a_plain_pin(self) -> None:
        for pin in self.PINS:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!]*", pin)

    def test_every_dependency_is_pinned(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = ("dev", "dense", "train", "documents", "offline", "plots", "integrations", "llm")
        asked = [
            *project["dependencies"],
            *(line for extra in extras for line in project["optional-dependencies"][extra]),
        ]
        names = {_normalised(re.split(r"[<>=!~\[; ]", line)[0]) for line in asked} - {"retgen"}
        assert names <= {_normalised(pin.partition("==")[0]) for pin in self.PINS}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
