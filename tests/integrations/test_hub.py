"""Models to a hub and back through the hub's own client: what comes back is what was sent, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retgen.errors import ArtefactError
from retgen.generative import UniGen
from retgen.integrations.hub import HubError, pull_from_hub, push_to_hub
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.store import MANIFEST
from retgen.types import Query
from tests.models.hub import Hub, local_hub
from tests.rerank.classifiers import save_classifier
from tests.train.toy import toy_system

QUERIES = [Query("q", "Who found oxygen?")]


def run(hub: Hub, home: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python that talks to a hub; the client reads its settings when it is imported, so it is another process'."""
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        **{"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hf"), "NO_PROXY": "*"},
        **{"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_none"},
    }
    lines = f"from retgen.integrations.hub import pull_from_hub, push_to_hub\n{code}"
    return subprocess.run(
        [sys.executable, "-c", lines], env=environment, cwd=home, capture_output=True, text=True, check=False
    )


def test_a_unigen_goes_there_and_comes_back(tmp_path: Path) -> None:
    system = toy_system()
    system.save(tmp_path / "model")
    with UniGen.open(tmp_path / "model", write=True, device="cpu") as changing:
        changing.remove(["oxygen"])
    (tmp_path / "model" / "README.md").write_text("mine, not a card")
    with local_hub() as hub:
        sent = run(hub, tmp_path, 'print(push_to_hub("model", "me/toy", licence="mit", data="Eight facts"))')
        assert sent.returncode == 0, sent.stderr[-3000:]
        assert sent.stdout.strip() == f"{hub.url}/me/toy/commit/1"
        back = run(hub, tmp_path, 'print(pull_from_hub("me/toy", "back"))')
        assert back.returncode == 0, back.stderr[-3000:]
        again = run(hub, tmp_path, 'pull_from_hub("me/toy", "back")')
    (created,) = hub.created
    assert created.get("visibility") == "private" or created.get("private") is True
    assert hub.files["README.md"].decode().startswith("---\n")
    assert "Eight facts" in hub.files["README.md"].decode()
    written = {path.relative_to(tmp_path / "model").as_posix(): path for path in (tmp_path / "model").rglob("*")}
    files = {name: path.read_bytes() for name, path in written.items() if path.is_file() and name != "README.md"}
    assert {name: content for name, content in hub.files.items() if name != "README.md"} == files
    for name, content in files.items():
        assert (tmp_path / "back" / name).read_bytes() == content
    # The document that was removed after the model was saved is not found either.
    here, there = (UniGen.open(tmp_path / name, device="cpu") for name in ("model", "back"))
    assert there.search(QUERIES, 8) == here.search(QUERIES, 8)
    assert "oxygen" not in there.search(QUERIES, 8).doc_ids("q")
    assert "something stands there already" in again.stderr


def test_a_cross_encoder_is_opened_by_its_name_on_the_hub(tmp_path: Path) -> None:
    loaded = CrossEncoder.from_pretrained(save_classifier(tmp_path / "source"), device="cpu")
    loaded.save(tmp_path / "model", made_by={"seed": 3})
    pair = ("who found oxygen?", "Joseph Priestley found it.")
    with local_hub() as hub:
        sent = run(hub, tmp_path, 'push_to_hub("model", "me/ce", private=False)')
        assert sent.returncode == 0, sent.stderr[-3000:]
        scored = run(
            hub,
            tmp_path,
            "from retgen import CrossEncoder\nimport json\n"
            f'print(json.dumps(CrossEncoder.from_pretrained("me/ce", device="cpu").predict([{pair!r}]).tolist()))',
        )
    assert scored.returncode == 0, scored.stderr[-3000:]
    assert json.loads(scored.stdout) == pytest.approx(loaded.predict([pair]).tolist(), abs=1e-5)


def test_what_does_not_arrive_whole_is_not_put_in_place(tmp_path: Path) -> None:
    toy_system().save(tmp_path / "model")
    with local_hub() as hub:
        assert run(hub, tmp_path, 'push_to_hub("model", "me/toy")').returncode == 0
        name = "model/model.safetensors"
        hub.files[name] = hub.files[name][:-1] + bytes([hub.files[name][-1] ^ 1])
        torn = run(hub, tmp_path, 'pull_from_hub("me/toy", "back")')
        del hub.files[MANIFEST]
        foreign = run(hub, tmp_path, 'pull_from_hub("me/toy", "back")')
        missing = run(hub, tmp_path, 'pull_from_hub("me/toy", "back", revision="no-such-branch")')
    assert "bytes have changed" in torn.stderr.splitlines()[-1]
    assert "retgen did not make it" in foreign.stderr.splitlines()[-1]
    assert "HubError: me/toy: the hub cannot be reached, or refuses" in missing.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir() if "back" in path.name] == []


def test_a_torn_model_is_not_sent(tmp_path: Path) -> None:
    toy_system().save(tmp_path / "model")
    with (tmp_path / "model" / "model" / "config.json").open("a") as config:
        config.write(" ")
    with pytest.raises(ArtefactError, match="bytes"):
        push_to_hub(tmp_path / "model", "me/toy")


def test_without_a_network_it_says_so_in_one_line(tmp_path: Path) -> None:
    """These tests run with HF_HUB_OFFLINE=1; nothing listens at the other address."""
    toy_system().save(tmp_path / "model")
    with pytest.raises(HubError) as push:
        push_to_hub(tmp_path / "model", "me/toy", token="hf_none")
    with pytest.raises(HubError) as pull:
        pull_from_hub("me/toy", tmp_path / "back")
    for raised in (push, pull):
        assert "me/toy" in str(raised.value)
        assert "\n" not in str(raised.value)
    refused = run(Hub(url="http://127.0.0.1:9"), tmp_path, 'push_to_hub("model", "me/toy")')
    assert refused.stderr.splitlines()[-1].startswith(
        "retgen.integrations.hub.HubError: me/toy: the hub cannot be reached"
    )
    assert not (tmp_path / "back").exists()
