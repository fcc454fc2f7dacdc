"""From a collection to a system: scratch, and a T5 checkpoint that transformers saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import T5ForConditionalGeneration

from retgen.docids.codes import read_code
from retgen.errors import UsageError
from retgen.generative.unigen import UniGen, UniGenSettings
from retgen.models.marks import BOUNDARY, DOCID_END
from retgen.train.build import LOCAL_OPTIONS, DocidOptions, build_unigen
from retgen.train.examples import finetuning_examples, pretraining_examples
from retgen.train.unigen import DevSet, train_unigen
from retgen.types import Document
from tests.models.checkpoints import TEXTS, save_seq2seq
from tests.train.toy import CORPUS, DOCUMENTS, QUESTIONS, TRIPLETS, contexts, same_weights, toy_options, weights

TITLES = DocidOptions(scheme="title")


def test_a_scratch_system_trains_in_two_stages_and_answers(tmp_path: Path) -> None:
    texts = [query.text for query in QUESTIONS]
    system = build_unigen(
        DOCUMENTS, "scratch:tiny", docids=TITLES, extra_texts=texts, corpus_fingerprint="toy",
        settings=UniGenSettings(max_input_tokens=64, answer_strategy="span"), device="cpu", **LOCAL_OPTIONS,
    )  # fmt: skip
    assert system.table.make_up.scheme == "title"
    before = weights(system)
    first = pretraining_examples(TRIPLETS, CORPUS, system.table)
    train_unigen(system, first, tmp_path / "1", options=toy_options(max_steps=2))
    between = weights(system)
    second = finetuning_examples(TRIPLETS, contexts(), system.table)
    train_unigen(system, second, tmp_path / "2", options=toy_options(max_steps=2))
    assert not same_weights(before, between)
    assert not same_weights(between, weights(system))
    run, answers = system.search_and_answer(contexts(), k=3)
    assert run.fingerprint == "toy"
    assert all(len(run[query_id]) == 3 for query_id in run)
    assert all(answer.text for answer in answers)


def test_seeds_decide_the_first_weights() -> None:
    one, same, other = (
        build_unigen(DOCUMENTS, "scratch:tiny", docids=TITLES, seed=seed, device="cpu") for seed in (3, 3, 4)
    )
    assert same_weights(weights(one), weights(same))
    assert not same_weights(weights(one), weights(other))


@pytest.mark.parametrize("options", [{}, LOCAL_OPTIONS], ids=["the paper's", "with heads"])
def test_a_t5_checkpoint_trains_and_answers(tmp_path: Path, options: dict[str, bool]) -> None:
    """Its dropout is on while it trains, off while it is asked, and its resumed training is the same."""
    save_seq2seq(tmp_path / "t5")
    documents = [Document(f"d{number}", text) for number, text in enumerate(TEXTS)]

    def built() -> UniGen:
        return build_unigen(
            documents, str(tmp_path / "t5"), docids=DocidOptions(words=3), device="cpu",
            settings=UniGenSettings(max_input_tokens=48, max_answer_tokens=4), **options,
        )  # fmt: skip

    system = built()
    source = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5")
    for decoder in (system.model.retrieval_decoder, system.model.answer_decoder):
        own, theirs = decoder.state_dict(), source.decoder.state_dict()
        assert all(torch.equal(own[name], theirs[name]) for name in own if not name.startswith("embed_tokens"))
    triplets = [
        type(triplet)(triplet.query, ("oxygen",), (f"d{number % len(documents)}",))
        for number, triplet in enumerate(TRIPLETS)
    ]
    examples = finetuning_examples(triplets, QUESTIONS, system.table)
    before = weights(system)
    dev = DevSet(QUESTIONS, triplets)
    record = train_unigen(system, examples, tmp_path / "whole", options=toy_options(max_steps=4), dev=dev)
    assert record.steps == 4
    assert not same_weights(before, weights(system))
    run, answers = system.search_and_answer(QUESTIONS, k=2)
    assert all(len(run[query.id]) == 2 for query in QUESTIONS)
    assert len(answers) == len(QUESTIONS)
    assert run.to_dict() == system.search(QUESTIONS, 2).to_dict()

    def stop(step: int, of: int, last: str) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_unigen(built(), examples, tmp_path / "parts", options=toy_options(max_steps=4), dev=dev, progress=stop)
    again = built()
    train_unigen(again, examples, tmp_path / "parts", options=toy_options(max_steps=4), dev=dev)
    assert same_weights(weights(system), weights(again))
    system.save(tmp_path / "saved")
    opened = UniGen.open(tmp_path / "saved", device="cpu")
    assert opened.search_and_answer(QUESTIONS, k=2)[1] == answers


def test_docids_carry_no_marks() -> None:
    documents = [Document("a", f"one {BOUNDARY} two {DOCID_END} three"), Document("b", "four five six")]
    pairs = DocidOptions(words=5).texts(documents)
    assert pairs == [("a", 'one / two " three'), ("b", "four five six")]
    system = build_unigen(documents, "scratch:tiny", device="cpu")
    assert [system.table.text(number) for number in range(2)] == [text for _, text in pairs]


def test_permuted_docids_are_the_same_texts_elsewhere() -> None:
    plain = dict(TITLES.texts(DOCUMENTS))
    moved = dict(DocidOptions(scheme="title", permute_seed=5).texts(DOCUMENTS))
    assert sorted(plain.values()) == sorted(moved.values())
    assert all(plain[doc_id] != moved[doc_id] for doc_id in plain)
    system = build_unigen(DOCUMENTS, "scratch:tiny", docids=DocidOptions(scheme="title", permute_seed=5), device="cpu")
    assert "permuted" in system.table.make_up.scheme


@pytest.mark.parametrize("source", ["scratch:tiny", "T5"])
@pytest.mark.parametrize("alphabet", ["position", "digits"])
def test_documents_are_named_by_codes_whatever_the_source(tmp_path: Path, source: str, alphabet: str) -> None:
    pytest.importorskip("faiss")
    if source == "T5":
        save_seq2seq(tmp_path / "t5")
        source = str(tmp_path / "t5")
    vectors = np.random.default_rng(0).normal(size=(len(DOCUMENTS), 4))
    docids = DocidOptions("semantic", options={"clusters": 3, "leaf": 2, "alphabet": alphabet})
    in_places = alphabet == "position"
    system = build_unigen(
        DOCUMENTS, source, docids=docids, vectors=vectors, settings=UniGenSettings(max_input_tokens=48), device="cpu",
        answers=False, prefix_head_layers=int(in_places), docid_outputs_only=in_places,
    )  # fmt: skip
    assert (system.model.config.docid_tokens is not None) == in_places
    numbers = range(len(DOCUMENTS))
    if in_places:
        codes = [read_code(system.table.text(number)) for number in numbers]
        assert all(len(system.table.token_ids(number)) == len(codes[number]) + 1 for number in numbers)
        with pytest.raises(UsageError, match="no token for"):
            system.add([("new", "<0:0><1:999>")])
        assert len(system.table) == len(DOCUMENTS)
        system.add([("new", system.table.text(0))])
        system.remove(["new"])
    assert system.table.make_up.cut == 0
    assert system.table.collision_rate == 0
    examples = finetuning_examples(TRIPLETS, QUESTIONS, system.table)
    train_unigen(system, examples, tmp_path / "training", options=toy_options(max_steps=2))
    run = system.search(QUESTIONS, k=3)
    assert all(len(run[query.id]) == 3 for query in QUESTIONS)
    system.save(tmp_path / "saved")
    again = UniGen.open(tmp_path / "saved", device="cpu").search(QUESTIONS, k=3)
    for query in QUESTIONS:
        assert list(again.scores(query.id)) == pytest.approx(list(run.scores(query.id)), abs=1e-4)


def test_documents_whose_docids_are_words_have_no_head_for_codes() -> None:
    with pytest.raises(UsageError, match="tokens of their own"):
        build_unigen(DOCUMENTS, "scratch:tiny", docids=TITLES, device="cpu", prefix_head_layers=1)


def test_connectors_are_docids() -> None:
    connectors = {document.id: f"about {document.id}" for document in DOCUMENTS}
    texts = DocidOptions(scheme="connector").texts(DOCUMENTS, connectors)
    assert dict(texts) == connectors
    with pytest.raises(UsageError, match="connector"):
        DocidOptions(scheme="connector").texts(DOCUMENTS)


@pytest.mark.parametrize(
    ("documents", "message"),
    [([], "no"), ([Document("a", "")], "empty docid"), ([Document("a", "x"), Document("a", "y")], "twice")],
    ids=["empty corpus", "no text", "repeated id"],
)
def test_collections_that_cannot_be_named(documents: list[Document], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_unigen(documents, "scratch:tiny", device="cpu")
