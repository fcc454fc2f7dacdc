"""Training in stages: each begins where the last ended; NCI's and Ultron's kinds of network learn and are resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retgen.connect import pseudo_questions
from retgen.docids.table import DocidTable
from retgen.errors import MismatchError, UsageError
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.docid_tokens import grow_docid_tokens
from retgen.train.docid_options import DocidOptions
from retgen.train.options import UniGenTraining
from retgen.train.pairs import Material, Pairs
from retgen.train.stages import TrainingStage, train_in_stages
from retgen.train.unigen import DevSet
from retgen.types import Query
from tests.train.toy import DOCUMENTS, QUESTIONS, TRIPLETS, same_weights, toy_network, weights

pytest.importorskip("faiss")

VECTORS = np.random.default_rng(0).normal(size=(len(DOCUMENTS), 8)).astype(np.float32)
CODES: dict[str, DocidOptions] = {
    "semantic": DocidOptions("semantic", options={"clusters": 3, "leaf": 2}),
    "pq": DocidOptions("pq", options={"groups": 4, "codes": 4}),
}
BASE = UniGenTraining(save_steps=1000, precision="fp32")


def coded_system(scheme: str = "semantic", *, layers: int = 0, only: bool = False, **network: Any) -> UniGen:
    texts = [*(document.contents for document in DOCUMENTS), *(query.text for query in QUESTIONS)]
    model, tokenizer = toy_network(texts, answers=False, **network)
    named = CODES[scheme].named(DOCUMENTS, vectors=VECTORS)
    assert named.alphabet is not None
    grow_docid_tokens(model, tokenizer, named.alphabet.tokens())
    if layers or only:
        model.write_codes(prefix_head_layers=layers, only=only)
        model.eval()
    table = DocidTable.build(named.pairs, tokenizer, corpus_fingerprint="toy")
    return UniGen(model, tokenizer, table, settings=UniGenSettings(max_input_tokens=64), device="cpu")


def material(system: UniGen, questions: int = len(TRIPLETS)) -> Material:
    return Material(DOCUMENTS, system.table, TRIPLETS[:questions], pseudo=pseudo_questions(DOCUMENTS, 3))


def stage(name: str, *kinds: str, steps: int = 4, rate: float = 6e-3, **options: Any) -> TrainingStage:
    pairs = tuple(Pairs(kind) for kind in kinds)  # type: ignore[arg-type]
    return TrainingStage(name, pairs, steps=steps, batch_size=8, learning_rate=rate, **options)


def test_each_stage_begins_with_the_weights_that_the_one_before_ended_with(tmp_path: Path) -> None:
    first, still = stage("first", "lead"), stage("second", "questions", rate=0.0)
    one, both, swapped = coded_system(), coded_system(), coded_system()
    train_in_stages(one, [first], material(one), tmp_path / "one", base=BASE)
    train_in_stages(both, [first, still], material(both), tmp_path / "both", base=BASE)
    # A stage at the rate 0 shows what it began with.
    assert same_weights(weights(one), weights(both))
    train_in_stages(swapped, [still, first], material(swapped), tmp_path / "swapped", base=BASE)
    assert same_weights(weights(one), weights(swapped))
    assert not same_weights(weights(one), weights(coded_system()))
    assert {row["stage"] for row in both.history} == {0.0, 1.0}


@pytest.mark.slow
def test_later_stages_build_on_what_earlier_ones_taught(tmp_path: Path) -> None:
    """Ultron's idea: passages teach what no labelled question asks for."""
    leads = [Query(f"q-{document.id}", document.text) for document in DOCUMENTS[4:]]
    dev = DevSet(leads, TRIPLETS[4:])
    found = {}
    for name, stages in {
        "in stages": [
            stage("passages", "lead", "terms", "title", steps=90),
            stage("generated", "pseudo", steps=10, rate=1e-3),
            stage("labelled", "questions", steps=10, rate=1e-3),
        ],
        "the last alone": [stage("labelled", "questions", steps=40)],
    }.items():
        system = coded_system("pq", width=48)
        train_in_stages(system, stages, material(system, questions=4), tmp_path / name, base=BASE)
        found[name] = dev.measure(system)["R@1"]
    assert found["in stages"] >= 0.75
    assert found["the last alone"] <= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("layers", [0, 1], ids=["plain decoder", "prefix-aware head"])
def test_questions_are_learnt_by_heart_with_a_consistency_loss(tmp_path: Path, layers: int) -> None:
    system = coded_system(width=48, layers=layers, only=True, dropout=0.05)
    dev = DevSet(QUESTIONS, TRIPLETS)
    before = dev.measure(system)
    assert set(before) == {"R@1", "R@10", "MRR@10", "score"}
    learnt = stage("questions", "questions", steps=120, consistency=0.15)
    [record] = train_in_stages(system, [learnt], material(system), tmp_path, base=BASE, dev=dev)
    assert before["R@1"] < 1
    assert dev.measure(system)["R@1"] == 1
    losses = [row["loss"] for row in record.history if "loss" in row]
    assert losses[-1] < losses[0]
    system.save(tmp_path / "saved")
    opened = UniGen.open(tmp_path / "saved", device="cpu")
    found, again = (each.search(QUESTIONS, 5) for each in (system, opened))
    for query in QUESTIONS:
        assert again.doc_ids(query.id) == found.doc_ids(query.id)
        assert list(again.scores(query.id)) == pytest.approx(list(found.scores(query.id)), abs=1e-4)
    assert opened.history == system.history
    with pytest.raises(UsageError, match="writes no answers"):
        opened.search_and_answer(QUESTIONS, 1)


def test_a_stopped_training_goes_on_within_its_stage(tmp_path: Path) -> None:
    stages = [stage("first", "lead"), stage("second", "questions", "title", steps=6)]
    base = UniGenTraining(save_steps=2, precision="fp32")
    whole = coded_system()
    train_in_stages(whole, stages, material(whole), tmp_path / "whole", base=base)

    def stop(name: str, step: int, of: int, last: str) -> None:
        if (name, step) == ("second", 5):
            raise KeyboardInterrupt

    broken = coded_system()
    with pytest.raises(KeyboardInterrupt):
        train_in_stages(broken, stages, material(broken), tmp_path / "parts", base=base, progress=stop)
    again = coded_system()
    done: list[tuple[str, int]] = []
    train_in_stages(
        again, stages, material(again), tmp_path / "parts", base=base,
        progress=lambda name, step, of, last: done.append((name, step)),
    )  # fmt: skip
    assert done == [("second", 5), ("second", 6)]
    assert same_weights(weights(whole), weights(again))
    other = [stages[0], stage("second", "questions", steps=7)]
    with pytest.raises(MismatchError, match="another training"):
        train_in_stages(again, other, material(again), tmp_path / "parts", base=base)


def test_dev_questions_are_asked_in_every_stage(tmp_path: Path) -> None:
    system = coded_system()
    base = UniGenTraining(save_steps=1000, eval_steps=2, precision="fp32")
    stages = [stage("first", "lead"), stage("second", "questions")]
    train_in_stages(system, stages, material(system), tmp_path, base=base, dev=DevSet(QUESTIONS, TRIPLETS))
    asked = [(row["stage"], row["step"]) for row in system.history if "eval_MRR@10" in row]
    assert asked == [(0, 2), (0, 4), (1, 2), (1, 4)]


def test_trainings_that_cannot_be(tmp_path: Path) -> None:
    system = coded_system()
    with pytest.raises(UsageError, match="a name of its own"):
        train_in_stages(system, [], material(system), tmp_path)
    with pytest.raises(UsageError, match="a name of its own"):
        train_in_stages(system, [stage("a", "lead"), stage("a", "title")], material(system), tmp_path)
    with pytest.raises(UsageError, match="'a' has no pairs"):
        stage("a")
    with pytest.raises(UsageError, match="cannot be negative"):
        stage("a", "lead", consistency=-1.0)
    before = weights(system)
    with pytest.raises(UsageError, match="compares readings with other dropout"):
        train_in_stages(system, [stage("a", "lead", consistency=0.1)], material(system), tmp_path)
    # What is missing for a later stage is said before anything is trained.
    bare = Material(DOCUMENTS, system.table)
    with pytest.raises(UsageError, match="no pairs of the kind 'questions'"):
        train_in_stages(system, [stage("a", "lead"), stage("b", "questions")], bare, tmp_path)
    assert same_weights(before, weights(system))
