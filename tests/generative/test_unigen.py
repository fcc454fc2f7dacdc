"""UniGen as a system: its three verbs agree with each other, and survive saving."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from retgen import store
from retgen.connect.offline import OfflineWriter
from retgen.docids.table import DocidTable
from retgen.errors import ArtefactError, MismatchError, UnknownDocumentError, UsageError
from retgen.generative import UniGen
from retgen.generative.history import model_history
from retgen.generative.over_index import open_unigen
from retgen.generative.unigen import UniGenSettings
from retgen.index import Index
from retgen.models.unigen import UniGenForRetrievalAndAnswering
from retgen.types import Query, Run
from tests.models.builders import tiny_model
from tests.models.checkpoints import wordpiece_tokenizer
from tests.train.toy import (
    CORPUS,
    DOCID_TEXTS,
    DOCUMENTS,
    QUESTIONS,
    contexts,
    same_weights,
    toy_system,
    toy_writer,
    weights,
)
from tests.writers import Scribe

HEADS: dict[str, Any] = {"copy_head": True, "span_head": True}
STRATEGIES = ("free", "constrained", "span")


@pytest.fixture(scope="module", params=[{}, HEADS], ids=["plain", "heads"])
def system(request: pytest.FixtureRequest) -> UniGen:
    return toy_system(**request.param)


@pytest.fixture(scope="module")
def reader() -> UniGen:
    return toy_system(**HEADS)


def with_settings(system: UniGen, **changes: Any) -> UniGen:
    return UniGen(
        system.model, system.tokenizer, system.table, writer=system.writer,
        settings=replace(system.settings, **changes), device="cpu",
    )  # fmt: skip


# The three verbs


def test_search_and_answer_is_search_and_answer(system: UniGen) -> None:
    queries = contexts()
    run, answers = system.search_and_answer(queries, k=4)
    assert run.to_dict() == system.search(queries, 4).to_dict()
    assert answers == system.answer(queries, run, CORPUS)
    assert [answer.passages for answer in answers] == [tuple(run.doc_ids(query.id)) for query in queries]
    assert all(answer.source is None and answer.score <= 0 for answer in answers)
    assert all(hit.score <= 0 for query in queries for hit in run[query.id])
    assert run.fingerprint == "toy"


def test_answers_without_a_run_name_no_passages(system: UniGen) -> None:
    assert all(answer.passages == () for answer in system.answer(contexts(), None, None))


@pytest.mark.parametrize("budget", [8192, 60])
def test_inputs_are_encoded_once(system: UniGen, budget: int) -> None:
    rows: list[int] = []
    hook = system.model.encoder.register_forward_hook(
        lambda module, args, kwargs, output: rows.append(len(output.last_hidden_state)), with_kwargs=True
    )
    try:
        with_settings(system, token_budget=budget).search_and_answer(contexts(), k=3)
    finally:
        hook.remove()
    assert sum(rows) == len(QUESTIONS)
    assert (len(rows) > 1) == (budget == 60)


def test_blocks_report_progress(system: UniGen) -> None:
    seen: list[tuple[int, int]] = []
    with_settings(system, token_budget=120).search_and_answer(contexts(), progress=lambda n, of: seen.append((n, of)))
    assert seen[-1] == (8, 8)
    assert [n for n, _ in seen] == sorted({n for n, _ in seen})


def test_token_budgets_change_nothing(system: UniGen) -> None:
    run, answers = system.search_and_answer(contexts(), k=4)
    for budget in (1, 150):
        other, said = with_settings(system, token_budget=budget).search_and_answer(contexts(), k=4)
        for query_id in run:
            assert run.doc_ids(query_id) == other.doc_ids(query_id)
            assert run.scores(query_id) == pytest.approx(other.scores(query_id), abs=1e-4)
        assert [answer.text for answer in answers] == [answer.text for answer in said]


# Re-ranking


def everything(queries: Sequence[Query]) -> Run:
    ids = list(CORPUS)
    return Run([query.id for query in queries], [ids] * len(queries), [[0.0] * len(ids)] * len(queries))


def test_reranking_gives_every_candidate_its_log_probability(system: UniGen) -> None:
    queries = contexts()
    ranked = system.rerank(queries, everything(queries), CORPUS)
    inputs = system.tokenizer(
        [query.input_text for query in queries], padding=True, return_tensors="pt", truncation=True, max_length=96
    )
    with torch.inference_mode():
        encoded = system.model.encode(inputs["input_ids"], inputs["attention_mask"])
        for number, doc_id in enumerate(CORPUS):
            labels = torch.tensor([system.table.token_ids(number)] * len(queries))
            wanted = system.model.target_log_probabilities("retrieval", encoded, labels).sum(dim=1)
            for query, score in zip(queries, wanted.tolist(), strict=True):
                assert ranked.to_dict()[query.id][doc_id] == pytest.approx(score, abs=1e-4)


def test_reranking_agrees_with_search(system: UniGen) -> None:
    queries = contexts()
    found = system.search(queries, 8)
    ranked = system.rerank(queries, everything(queries), CORPUS)
    for query in queries:
        hits = ranked.to_dict()[query.id]
        assert len(hits) == len(CORPUS)
        for hit in found[query.id]:
            assert hits[hit.doc_id] == pytest.approx(hit.score, abs=1e-4)
        # Ten beams hold all eight docids.
        assert found.doc_ids(query.id) == ranked.doc_ids(query.id)


def test_reranking_names_documents_it_does_not_know(system: UniGen) -> None:
    run = Run(["q-iron"], [["iron", "atlantis"]], [[2.0, 1.0]])
    with pytest.raises(UnknownDocumentError, match="atlantis"):
        system.rerank([Query("q-iron", "?")], run, CORPUS)


def test_reranking_refuses_another_corpus_run(system: UniGen) -> None:
    run = Run(["q-iron"], [["iron"]], [[1.0]], fingerprint="another")
    with pytest.raises(MismatchError, match="another corpus"):
        system.rerank([Query("q-iron", "?")], run, CORPUS)


def test_shared_docids_share_scores_and_keep_the_runs_order() -> None:
    system = toy_system({**DOCID_TEXTS, "iron": "Gold", "bell": "Gold"})
    run = Run(["q"], [["bell", "mars", "gold", "iron"]], [[4.0, 3.0, 2.0, 1.0]])
    ranked = system.rerank([Query("q", "?")], run, CORPUS)
    assert [doc_id for doc_id in ranked.doc_ids("q") if doc_id != "mars"] == ["bell", "gold", "iron"]
    assert len({hit.score for hit in ranked["q"] if hit.doc_id != "mars"}) == 1
    found = system.search([Query("q", "?")], 8).doc_ids("q")
    assert [doc_id for doc_id in found if doc_id in ("gold", "iron", "bell")] == ["iron", "gold", "bell"]


# Answers


@pytest.mark.parametrize("strategy", ["constrained", "span"])
def test_extracted_answers_are_substrings_of_the_context(reader: UniGen, strategy: str) -> None:
    queries = contexts()
    for noise in range(4):
        model = tiny_noise(reader, noise)
        answers = with_settings(model, answer_strategy=strategy, max_answer_tokens=5).answer(queries, None, None)
        for query, answer in zip(queries, answers, strict=True):
            passages = query.input_text.partition(" | ")[2]
            assert answer.text
            assert answer.text == answer.text.strip()
            assert answer.text in passages
            assert "|" not in answer.text
            assert "»" not in answer.text
            assert answer.score <= 0


def tiny_noise(system: UniGen, seed: int) -> UniGen:
    """The same system, its answers made wild."""
    noisy = toy_system(seed=seed, **HEADS)
    with torch.no_grad():
        for parameter in noisy.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return noisy


def test_span_scores_are_those_of_the_head(reader: UniGen) -> None:
    query = contexts()[:1]
    answer = with_settings(reader, answer_strategy="span", max_answer_tokens=4).answer(query, None, None)[0]
    ids = reader.tokenizer([query[0].input_text], return_tensors="pt")
    with torch.inference_mode():
        encoded = reader.model.encode(ids["input_ids"], ids["attention_mask"])
        scores = reader.model.span_log_probabilities(encoded)[0]
    best = max(
        float(scores[start, 0] + scores[end, 1])
        for start in range(len(scores))
        for end in range(start, min(start + 4, len(scores)))
        if not any(token in (ids["input_ids"][0, start : end + 1].tolist()) for token in marks_of(reader))
    )
    assert answer.score == pytest.approx(best, abs=1e-4)


def marks_of(system: UniGen) -> tuple[int, int]:
    return system.model.config.boundary_token_id, system.model.config.docid_end_token_id


def test_free_answers_score_what_was_written() -> None:
    system = toy_system()
    query = contexts()[:1]
    answer = with_settings(system, max_answer_tokens=3).answer(query, None, None)[0]
    ids = system.tokenizer([query[0].input_text], return_tensors="pt")
    written: list[int] = []
    total = 0.0
    with torch.inference_mode():
        encoded = system.model.encode(ids["input_ids"], ids["attention_mask"])
        for _ in range(3):
            scores = []
            for token in range(system.model.config.vocab_size):
                labels = torch.tensor([[*written, token]])
                scores.append(float(system.model.target_log_probabilities("answer", encoded, labels)[0, -1]))
            best = max(range(len(scores)), key=scores.__getitem__)
            total += scores[best]
            if best == system.model.config.eos_token_id:
                break
            written.append(best)
    assert answer.text == system.tokenizer.decode(written, skip_special_tokens=True).strip()
    assert answer.score == pytest.approx(total, abs=1e-3)


def test_strategies_need_their_heads() -> None:
    plain = toy_system()
    with pytest.raises(UsageError, match="copy_head"):
        with_settings(plain, answer_strategy="constrained").answer(contexts(), None, None)
    for options in ({}, {"copy_head": True}):
        with pytest.raises(UsageError, match="span_head"):
            with_settings(toy_system(**options), answer_strategy="span").answer(contexts(), None, None)
    with pytest.raises(UsageError, match="free, constrained, span"):
        UniGenSettings(answer_strategy="guess")


# Small and odd inputs


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("text", ["", "?!", "   ", "|", "» |", "東京 🦊", "word " * 3000])
def test_odd_questions_are_answered(reader: UniGen, strategy: str, text: str) -> None:
    run, answers = with_settings(reader, answer_strategy=strategy).search_and_answer([Query("q", text)], k=3)
    assert len(run["q"]) == 3
    assert isinstance(answers[0].text, str)
    assert len(answers) == 1


@pytest.mark.parametrize("options", [{}, HEADS], ids=["plain", "heads"])
def test_one_document(options: dict[str, Any]) -> None:
    system = toy_system({"iron": "Iron"}, **options)
    run, answers = system.search_and_answer(contexts(), k=10)
    assert all(run.doc_ids(query_id) == ["iron"] for query_id in run)
    assert len(answers) == 8


@pytest.mark.parametrize("beams", [1, 3, 40])
def test_beams_bound_what_is_found(system: UniGen, beams: int) -> None:
    run = with_settings(system, num_beams=beams).search(contexts(), 100)
    assert all(len(run[query_id]) == min(beams, 8) for query_id in run)
    best = system.search(contexts(), 1)
    if beams >= 8:
        assert all(run.doc_ids(query_id)[0] == best.doc_ids(query_id)[0] for query_id in run)


def test_no_questions(system: UniGen) -> None:
    run, answers = system.search_and_answer([], k=3)
    assert (len(run), answers) == (0, [])


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_left_as_it_was(training: bool) -> None:
    system = toy_system(dropout=0.5)
    system.model.train(training)
    one = system.search_and_answer(contexts(), k=3)[0]
    assert system.model.training == training
    assert one.to_dict() == system.search(contexts(), k=3).to_dict()  # no dropout
    system.rerank(contexts(), everything(contexts()), CORPUS)
    assert system.model.training == training


# The writer


def test_the_writer_writes_for_queries_without_connectors_only() -> None:
    writer = Scribe()
    system = toy_system()
    system.writer = writer
    system.settings = replace(system.settings, context_words=17)
    queries = [QUESTIONS[0], *contexts(QUESTIONS[1:3]), QUESTIONS[3]]
    wanted = ["q-oxygen", "q-nile"]
    full = system.with_connectors(queries)
    assert writer.contexts_asked == [(query_id, 17) for query_id in wanted]
    assert [query.id for query in full] == [query.id for query in queries]
    assert [query.input_text for query in full] == [
        f"first {query.text}" if query.id in wanted else query.input_text for query in queries
    ]
    assert queries[0].connector is None
    for verb in (
        lambda asked: system.search(asked, 2),
        lambda asked: system.answer(asked, None, None),
        lambda asked: system.search_and_answer(asked, 2),
        lambda asked: system.rerank(asked, everything(asked), CORPUS),
    ):
        writer.contexts_asked.clear()
        verb(queries)
        assert [query_id for query_id, _ in writer.contexts_asked] == wanted
        writer.contexts_asked.clear()
        verb(full)
        assert writer.contexts_asked == []


def test_writing_is_the_same_as_bringing_ones_own(reader: UniGen) -> None:
    system = with_settings(reader)
    system.writer = toy_writer()
    written = system.with_connectors(QUESTIONS)
    assert written[0].connector is not None
    assert written[0].connector.writer == "offline:bm25-context"
    assert system.search(QUESTIONS, 3).to_dict() == reader.search(written, 3).to_dict()


# Folders


@pytest.mark.parametrize("options", [{}, HEADS, {"share_encoder": False, **HEADS}], ids=["plain", "heads", "two"])
def test_saved_and_opened_is_the_same_bit_for_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    settings = UniGenSettings(
        num_beams=5, max_input_tokens=80, max_answer_tokens=6, answer_strategy="span" if options else "free"
    )
    system = toy_system(settings=settings, **options)
    system.save(tmp_path / "model")
    opened = UniGen.open(tmp_path / "model", corpus_fingerprint="toy", device="cpu")
    assert opened.settings == settings
    assert same_weights(weights(system), weights(opened))
    assert not opened.model.training
    one, other = (each.search_and_answer(contexts(), k=5) for each in (system, opened))
    assert one[0].to_dict() == other[0].to_dict()
    assert one[0].fingerprint == other[0].fingerprint
    assert one[1] == other[1]
    opened.save(tmp_path / "model", overwrite=True)
    again = UniGen.open(tmp_path / "model", writer=toy_writer())
    assert again.writer is not None
    assert same_weights(weights(system), weights(again))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    toy_system().save(path)
    return path


def test_another_corpus_is_refused(folder: Path) -> None:
    with pytest.raises(MismatchError, match="another corpus"):
        UniGen.open(folder, corpus_fingerprint="another")


def test_saving_does_not_overwrite_unless_told(folder: Path) -> None:
    with pytest.raises(ArtefactError):
        toy_system().save(folder)


def test_folders_of_other_kinds_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ArtefactError):
        UniGen.open(tmp_path / "nowhere")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    with pytest.raises(ArtefactError):
        UniGen.open(tmp_path / "foreign")
    with pytest.raises(ArtefactError, match="live-docids"):
        UniGen.open(folder / "docids")


@pytest.mark.parametrize(
    "file", ["model/model.safetensors", "settings.json", "docids/tokens.npy", "model/tokenizer.json", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["gone", "short"])
def test_torn_folders_are_refused(tmp_path: Path, folder: Path, file: str, damage: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    found = [path for path in (tmp_path / "model").rglob("*") if path.as_posix().endswith(file.split("/")[-1])]
    assert found, sorted(path.name for path in (tmp_path / "model").rglob("*"))
    for path in found:
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ArtefactError):
        UniGen.open(tmp_path / "model")


@pytest.mark.parametrize(
    "settings",
    [
        '{"beams": 3}',
        '{"answer_strategy": "guess"}',
        "[]",
        "not json",
        '{"num_beams": 0}',
        '{"context_passages": 3, "context_listed": 2}',
    ],
)
def test_settings_that_cannot_be_read(tmp_path: Path, settings: str) -> None:
    system = toy_system()
    with store.create(tmp_path / "model", kind="unigen") as staging:
        system.model.save_pretrained(staging / "model")
        system.tokenizer.save_pretrained(staging / "model")
        system.table.save(staging / "docids")
        (staging / "settings.json").write_text(settings)
    with pytest.raises(ArtefactError, match="settings"):
        UniGen.open(tmp_path / "model")


def test_a_folder_of_earlier_settings_opens(tmp_path: Path) -> None:
    system = toy_system()
    with store.create(tmp_path / "model", kind="unigen") as staging:
        system.model.save_pretrained(staging / "model")
        system.tokenizer.save_pretrained(staging / "model")
        system.table.save(staging / "docids")
        (staging / "settings.json").write_text('{"num_beams": 4, "context": "offline:bm25-context"}')
    opened = UniGen.open(tmp_path / "model", device="cpu")
    assert (opened.settings.num_beams, opened.settings.context_passages, opened.settings.context_listed) == (4, 2, 10)
    assert opened.history == []


def test_the_history_of_its_training_is_kept(tmp_path: Path) -> None:
    system = toy_system()
    system.history = [{"step": 5.0, "stage": 1.0, "eval_MRR@10": 0.25}]
    system.save(tmp_path / "model")
    assert UniGen.open(tmp_path / "model", device="cpu").history == system.history
    assert model_history(tmp_path / "model") == system.history


def test_a_torn_history_is_refused(tmp_path: Path) -> None:
    with store.create(tmp_path / "model", kind="unigen") as staging:
        (staging / "history.json").write_text('[{"step": "third"}]')
    with pytest.raises(ArtefactError, match="history of a training cannot be read"):
        model_history(tmp_path / "model")


@pytest.mark.parametrize(("passages", "listed"), [(1, 1), (2, 3)])
def test_an_index_writes_contexts_as_long_as_the_models_own(tmp_path: Path, passages: int, listed: int) -> None:
    index = Index.build(DOCUMENTS, tmp_path / "index")
    settings = UniGenSettings(
        max_input_tokens=96, context="offline:bm25-context", context_passages=passages, context_listed=listed
    )
    toy_system(settings=settings, fingerprint=index.corpus.fingerprint).save(tmp_path / "model")
    opened = open_unigen(tmp_path / "model", index, device="cpu")
    assert isinstance(opened.writer, OfflineWriter)
    metal = Query("q", "Is iron or gold a metal, and where does the Nile flow to the sea?")
    (blocks,) = opened.writer.blocks([metal])
    assert len(blocks) == listed
    assert sum(bool(block.sentences) for block in blocks) == passages


@pytest.mark.parametrize("kind", ["another network", "weights missing"])
def test_foreign_weights_are_refused(tmp_path: Path, kind: str) -> None:
    system = toy_system(**HEADS)
    with store.create(tmp_path / "model", kind="unigen") as staging:
        network: UniGenForRetrievalAndAnswering = tiny_model("t5") if kind == "another network" else system.model
        network.save_pretrained(staging / "model")
        system.tokenizer.save_pretrained(staging / "model")
        if kind == "weights missing":
            config = json.loads((staging / "model" / "config.json").read_text())
            config["share_encoder"] = False
            (staging / "model" / "config.json").write_text(json.dumps(config))
        system.table.save(staging / "docids")
        (staging / "settings.json").write_text("{}")
    with pytest.raises((ArtefactError, MismatchError)):
        UniGen.open(tmp_path / "model").search(contexts(), 3)


def test_docids_of_another_tokenizer_are_refused() -> None:
    system = toy_system()
    table = DocidTable.build(DOCID_TEXTS.items(), wordpiece_tokenizer())
    with pytest.raises(MismatchError, match="tokenizer"):
        UniGen(system.model, system.tokenizer, table)
