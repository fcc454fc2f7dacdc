"""`push_to_hub` through the hub's own client, to a hub on this machine: what arrives there is the whole model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from retgen.models.saving import load_saved
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from tests.models.hub import local_hub
from tests.train.toy import same_weights, toy_system, weights

# The client reads its address when it is imported, so the upload is another process'.
UPLOAD = """
import sys
from retgen.models.saving import load_saved
model, tokenizer = load_saved(sys.argv[1])
model.push_to_hub("somebody/unigen", token="hf_none")
tokenizer.push_to_hub("somebody/unigen", token="hf_none")
"""


def test_what_arrives_at_the_hub_is_the_whole_model(tmp_path: Path) -> None:
    system = toy_system(copy_head=True, span_head=True)
    system.model.save_pretrained(tmp_path / "model")
    system.tokenizer.save_pretrained(tmp_path / "model")
    with local_hub() as hub:
        environment = {
            **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
            **{"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "*"},
            **{"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"},
        }
        ended = subprocess.run(
            [sys.executable, "-c", UPLOAD, str(tmp_path / "model")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ("POST", "/api/models/somebody/unigen/commit/main") in hub.requests
    written = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert set(hub.files) == {*written, "README.md"}
    # The tokenizer's configuration says besides that it was read from a folder.
    same = {*written} - {"tokenizer_config.json"}
    assert {name: hub.files[name] for name in same} == {name: written[name] for name in same}
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    for name, content in hub.files.items():
        (arrived / name).write_bytes(content)
    model, tokenizer = load_saved(arrived)
    assert isinstance(model, UniGenForRetrievalAndAnswering)
    assert same_weights(weights(system), {name: value.clone() for name, value in model.state_dict().items()})
    assert tokenizer.get_vocab() == system.tokenizer.get_vocab()
