"""A model's card says what its folder knows and what its publisher says, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from retgen.corpus import Corpus
from retgen.dense.encoder import KIND as BI_ENCODER
from retgen.errors import ArtefactError, UsageError
from retgen.integrations.model_card import ABOUT, model_card
from retgen.models.cross_encoder_sources import KIND as CROSS_ENCODER
from retgen.models.generator_sources import KIND as GENERATOR
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.store import verify
from retgen.types import Document
from tests.rerank.classifiers import save_classifier
from tests.train.toy import toy_system


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cards")
    made_by = {
        "source": "/home/somebody/models/mini", "seed": 13, "learning_rate": 2e-5, "corpus": "c0ffee" * 8,
        "note": "a | b\n<script>alert(1)</script> `code`", "left": None,
    }  # fmt: skip
    loaded = CrossEncoder.from_pretrained(save_classifier(home / "source"), device="cpu")
    loaded.save(home / "model", made_by=made_by)
    return home / "model"


def parts(card: str) -> tuple[dict[str, object], str]:
    """The header's values, and the rest."""
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


def cells(body: str) -> dict[str, str]:
    """Every table's rows by their first cell."""
    found = re.findall(r"^\| (.*?) \| (.*) \|$", body, re.MULTILINE)
    return {name: value for name, value in found if name not in ("what", "measure", "setting")}


def test_it_says_what_folder_and_publisher_know(cross_encoder: Path) -> None:
    header, body = parts(
        model_card(
            cross_encoder, "me/my-ce", licence="apache-2.0", data="rajpurkar/squad_v2", data_licence="CC BY-SA 4.0",
            measures={"RR@10": 0.71234}, base_model="google/bert", language="en",
        )
    )  # fmt: skip
    assert header == {
        "language": "en", "license": "apache-2.0", "library_name": "retgen", "pipeline_tag": "text-ranking",
        "base_model": "google/bert", "datasets": ["rajpurkar/squad_v2"],
        "tags": ["retgen", "cross-encoder", "reranker"],
    }  # fmt: skip
    told = cells(body)
    assert told["fingerprint of the corpus"] == "c0ffee" * 8
    assert told["seed"] == "13"
    assert told["licence of the data"] == "CC BY-SA 4.0"
    assert told["RR@10"] == "0.7123"
    assert told["learning_rate"] == "2e-05"
    assert 'CrossEncoder.from_pretrained("me/my-ce")' in body


def test_what_nobody_said_is_not_stated(cross_encoder: Path) -> None:
    header, body = parts(model_card(cross_encoder, "me/my-ce"))
    assert not {"license", "datasets", "base_model", "language"} & set(header)
    told = cells(body)
    assert told["data"] == told["licence of the data"] == "not stated"
    assert "Measures are not stated." in body
    assert "left" not in told


def test_paths_of_the_machine_are_left_out_and_no_markup_works(cross_encoder: Path) -> None:
    card = model_card(cross_encoder, "me/my-ce", data="<b>mine</b> | yours")
    assert "/home/somebody" not in card
    told = cells(parts(card)[1])
    assert told["source"] == told["begun from"] == "mini"
    assert told["note"] == r"a \| b &lt;script&gt;alert(1)&lt;/script&gt; \`code\`"
    assert told["data"] == r"&lt;b&gt;mine&lt;/b&gt; \| yours"


def test_more_about_the_training_stands_above_the_folders(cross_encoder: Path) -> None:
    told = cells(parts(model_card(cross_encoder, "me/my-ce", training={"seed": 14, "steps_done": 300}))[1])
    assert (told["seed"], told["steps_done"]) == ("14", "300")


def test_a_unigens_card_has_its_corpus_and_its_last_dev_measures(tmp_path: Path) -> None:
    system = toy_system(fingerprint="f00d" * 16)
    system.history = [
        {"step": 10, "stage": 1, "loss": 3.0},
        {"step": 10, "stage": 1, "eval_MRR@10": 0.25, "eval_EM": 0.125},
        {"step": 20, "stage": 1, "eval_MRR@10": 0.5, "eval_EM": 0.375},
        {"step": 21, "stage": 1, "loss": 2.0},
    ]
    system.made_by = {"seed": 5}
    system.save(tmp_path / "model")
    body = parts(model_card(tmp_path / "model", "me/my-unigen"))[1]
    told = cells(body)
    assert told["fingerprint of the corpus"] == "f00d" * 16
    assert (told["MRR@10"], told["EM"], told["seed"]) == ("0.5", "0.375", "5")
    assert "last at step 20" in body


def test_the_python_of_every_card_parses_and_imports_what_exists() -> None:
    import ast
    import importlib

    assert {CROSS_ENCODER, GENERATOR, BI_ENCODER, "unigen", "unigen model", "reader"} == set(ABOUT)
    for about in ABOUT.values():
        for node in ast.walk(ast.parse(about.load.format(repo="me/model", name="model"))):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_what_is_no_model_has_no_card(tmp_path: Path, cross_encoder: Path) -> None:
    Corpus.build([Document("a", "text")], tmp_path / "corpus")
    with pytest.raises(UsageError, match="holds: corpus"):
        model_card(tmp_path / "corpus", "me/corpus")
    with pytest.raises(ArtefactError, match="no such folder"):
        model_card(tmp_path / "nowhere", "me/model")
    for name in ("model", "me/my model", "me/x\n# heading", "a/b/c"):
        with pytest.raises(UsageError, match="owner/name"):
            model_card(cross_encoder, name)
    assert verify(cross_encoder).kind == CROSS_ENCODER
