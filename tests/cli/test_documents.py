"""``retgen add`` and ``retgen remove``: found at once, gone at once, all or none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retgen.cli import app

DOCUMENTS = {"iron": "Iron rusts in damp air.", "neon": "Neon glows red in a tube.", "gold": "Gold does not rust."}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path: Path, documents: dict[str, str]) -> Path:
    lines = (json.dumps({"_id": name, "title": "", "text": text}) for name, text in documents.items())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    out = tmp_path / "index"
    assert run("index", write(tmp_path / "corpus.jsonl", DOCUMENTS), "--out", out).exit_code == 0
    return out


def found(index: Path, query: str) -> list[str]:
    result = run("search", index, query, "-k", "3", "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line)["doc_id"] for line in result.stdout.splitlines()]


def test_what_is_added_is_found_and_what_is_removed_is_not(index: Path, tmp_path: Path) -> None:
    more = write(tmp_path / "more.jsonl", {"tin": "Tin cries when bent.", "zinc": "Zinc keeps iron from rust."})
    result = run("add", index, more, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["added"], said["replaced"], said["passages"]) == (2, 0, 5)
    assert found(index, "who cries") == ["tin"]
    result = run("remove", index, "tin", "gold", "--json")
    assert json.loads(result.stdout)["removed"] == 2
    assert found(index, "who cries") == []
    assert "gold" not in found(index, "rust")
    assert run("verify", index).exit_code == 0


def test_the_changed_index_is_the_one_built_of_the_same_documents(index: Path, tmp_path: Path) -> None:
    left = {"neon": DOCUMENTS["neon"], "gold": DOCUMENTS["gold"], "tin": "Tin cries when bent."}
    assert run("add", index, write(tmp_path / "tin.jsonl", {"tin": left["tin"]})).exit_code == 0
    assert run("remove", index, "iron").exit_code == 0
    fresh = tmp_path / "fresh"
    assert run("index", write(tmp_path / "left.jsonl", left), "--out", fresh).exit_code == 0
    for query in ("rust", "red tube", "bent tin", "air"):
        assert run("search", index, query, "--json").stdout == run("search", fresh, query, "--json").stdout


def test_an_id_that_is_there_is_replaced_only_when_asked(index: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", {"iron": "Iron is drawn by magnets.", "tin": "Tin cries when bent."})
    refused = run("add", index, other)
    assert refused.exit_code == 2
    assert "iron" in refused.stderr
    assert found(index, "who cries") == []  # all or none
    said = json.loads(run("add", index, other, "--replace", "--json").stdout)
    assert (said["added"], said["replaced"], said["passages"]) == (1, 1, 4)
    assert found(index, "magnets") == ["iron"]
    assert "iron" not in found(index, "damp air")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("remove", "none"), "none"), (("remove", *DOCUMENTS), "needs one"), (("add", "empty.jsonl"), "")],
)
def test_what_cannot_be_done_leaves_the_index_as_it_was(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    command, *rest = arguments
    result = run(command, index, *rest)
    assert result.exit_code != 0
    assert said in result.stderr
    assert sorted(found(index, "iron neon gold")) == sorted(DOCUMENTS)


def test_one_id_twice_is_refused(index: Path, tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"{name}.jsonl", {"tin": name}) for name in ("first", "second"))
    result = run("add", index, first, second)
    assert result.exit_code == 2
    assert "'tin'" in result.stderr
