"""Writers that prompt language models: the prompts are the paper's, every job gives what the protocol says."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from retgen.connect import Writer
from retgen.connect.chat import ChatWriter
from retgen.connect.files import WrittenText, read_texts, write_texts
from retgen.connect.local import LocalWriter
from retgen.connect.prompted import PromptedWriter, Sampling
from retgen.errors import FormatError, RecordError, UsageError
from retgen.llm import (
    Budget,
    BudgetSpentError,
    CompletionsFailedError,
    Endpoint,
    EndpointClient,
    Ledger,
    Prompt,
    read_prompts,
)
from retgen.types import Answer, Document, Query
from tests.llm.serving import MODEL
from tests.models.checkpoints import save_seq2seq

DOCUMENTS = [Document("a", "Radium was found in 1898.", "Radium"), Document("b", "Tin melts at 232 °C.")]
QUERIES = [Query("q0", "Who found  radium?"), Query("q1", "What melts?")]
SHORT = Sampling(max_tokens=8)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(":memory:")


@pytest.fixture(params=["chat", "local"])
def writer(request: pytest.FixtureRequest, chat_model: Path, model_url: str, ledger: Ledger) -> PromptedWriter:
    if request.param == "chat":
        return ChatWriter(EndpointClient(Endpoint(model_url), ledger), MODEL, sampling=SHORT)
    return LocalWriter.from_pretrained(chat_model, dtype="fp32", name=MODEL, ledger=ledger, sampling=SHORT)


def prompts_of(ledger: Ledger) -> list[str]:
    return [entry.request.prompt for entry in ledger.entries()]


def test_every_job_gives_one_text_for_each_item_by_the_papers_prompts(writer: PromptedWriter, ledger: Ledger) -> None:
    assert isinstance(writer, Writer)
    summaries = writer.summarise(DOCUMENTS, words=5)
    contexts = writer.contextualise(QUERIES, words=7)
    answers = writer.answer(QUERIES, DOCUMENTS)
    better = writer.enhance(QUERIES, [DOCUMENTS, []], [Answer("q0", "Curie"), ""], words=9, round=2)
    assert [len(texts) for texts in (summaries, contexts, answers, better)] == [2] * 4
    assert all(text == " ".join(text.split()) for text in [*summaries, *answers])
    assert {each.writer for each in [*contexts, *better]} == {MODEL}
    assert [each.round for each in [*contexts, *better]] == [0, 0, 2, 2]
    assert sorted(prompts_of(ledger)) == sorted(
        [
            "Summarize the key information of the following document in about 5 words.\n Document: Radium Radium was "
            "found in 1898.",
            "Summarize the key information of the following document in about 5 words.\n Document: Tin melts at 232 "
            "°C.",
            "Write a context to the following question in about 7 words.\n Question: Who found radium?",
            "Write a context to the following question in about 7 words.\n Question: What melts?",
            *(
                "Answer the question from the document in at most six words, copied from the document where possible. "
                f"Reply with the answer alone.\n Document: {shown}\n Question: {asked}"
                for shown, asked in (
                    ("Radium Radium was found in 1898.", "Who found radium?"),
                    ("Tin melts at 232 °C.", "What melts?"),
                )
            ),
            "Given the following potentially relevant documents and the potentially correct answer, please provide "
            "the context for the question in 9 words. \n Document: Radium Radium was found in 1898. Tin melts at 232 "
            "°C. \n Answer: Curie \n Question: Who found radium?",
            "Given the following potentially relevant documents and the potentially correct answer, please provide "
            "the context for the question in 9 words. \n Document:  \n Answer:  \n Question: What melts?",
        ]
    )


def test_what_is_written_does_not_depend_on_the_batch_and_is_written_once(
    writer: PromptedWriter, ledger: Ledger
) -> None:
    together = writer.summarise(DOCUMENTS, words=5)
    kept = len(ledger)
    assert [writer.summarise([document], words=5)[0] for document in DOCUMENTS] == together
    assert len(ledger) == kept == 2
    assert writer.summarise([]) == []


def test_local_and_served_models_write_the_same(chat_model: Path, model_url: str) -> None:
    local = LocalWriter.from_pretrained(chat_model, dtype="fp32", sampling=SHORT)
    served_writer = ChatWriter(EndpointClient(Endpoint(model_url)), MODEL, sampling=SHORT)
    queries = [Query(f"q{number}", f"What is {number}?") for number in range(20)]
    assert [each.text for each in local.contextualise(queries)] == [
        each.text for each in served_writer.contextualise(queries)
    ]


def test_draws_of_a_local_model_depend_on_prompt_and_seed_alone(chat_model: Path) -> None:
    def written(seed: int, queries: list[Query], batch_tokens: int = 8192) -> list[str]:
        sampling = Sampling(temperature=1.0, seed=seed, max_tokens=8)
        made = LocalWriter.from_pretrained(chat_model, dtype="fp32", sampling=sampling, batch_tokens=batch_tokens)
        return [each.text for each in made.contextualise(queries)]

    queries = [Query(f"q{number}", f"{'long ' * number}question?") for number in range(6)]
    assert written(1, queries) == written(1, queries, 1) == written(1, queries[::-1])[::-1]
    assert written(1, queries) != written(2, queries)


def test_another_model_under_the_same_name_is_another_writer(chat_model: Path, ledger: Ledger) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(chat_model), AutoTokenizer.from_pretrained(chat_model)
    LocalWriter(model, tokenizer, "mine", ledger=ledger, sampling=SHORT).contextualise(QUERIES)
    model.transformer.h[0].mlp.c_fc.weight.data += 0.1
    LocalWriter(model, tokenizer, "mine", ledger=ledger, sampling=SHORT).contextualise(QUERIES)
    assert len(ledger) == 4


def test_an_encoder_decoder_writes_too(tmp_path: Path) -> None:
    save_seq2seq(tmp_path)
    writer = LocalWriter.from_pretrained(tmp_path, dtype="fp32", sampling=SHORT, batch_tokens=1)
    together = LocalWriter.from_pretrained(tmp_path, dtype="fp32", sampling=SHORT)
    assert writer.summarise(DOCUMENTS) == together.summarise(DOCUMENTS)


def test_a_prompt_that_is_too_long_is_named_and_the_others_are_kept(writer: PromptedWriter, ledger: Ledger) -> None:
    long = Document("long", "word " * 2000)
    with pytest.raises(CompletionsFailedError, match="1 of 3 prompts") as raised:
        writer.summarise([DOCUMENTS[0], long, DOCUMENTS[1]], words=5)
    assert set(raised.value.reasons) == {1}
    assert [text is None for text in raised.value.texts] == [False, True, False]
    assert len(ledger) == 2
    writer.document_words = 20
    assert len(writer.summarise([DOCUMENTS[0], long, DOCUMENTS[1]], words=5)) == 3


def test_a_budget_ends_a_job_and_the_next_goes_on(model_url: str, ledger: Ledger) -> None:
    queries = [Query(f"q{number}", f"What is {number}?") for number in range(20)]
    client = EndpointClient(Endpoint(model_url), ledger, budget=Budget(max_tokens=800))
    with pytest.raises(BudgetSpentError):
        ChatWriter(client, MODEL, sampling=SHORT).contextualise(queries)
    assert 0 < len(ledger) < 20
    assert (
        len(ChatWriter(EndpointClient(Endpoint(model_url), ledger), MODEL, sampling=SHORT).contextualise(queries)) == 20
    )


def test_prompts_from_a_file(tmp_path: Path, chat_model: Path, ledger: Ledger) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text("contextualise: |-\n  Tell of {q} {{briefly}}\nsummarise: '{m} words on {d}'\n")
    writer = LocalWriter.from_pretrained(chat_model, prompts=read_prompts(file), ledger=ledger, sampling=SHORT)
    writer.contextualise(QUERIES[:1])
    assert prompts_of(ledger) == ["Tell of Who found radium? {briefly}"]
    assert writer.prompts["answer"].source.startswith("retgen")
    for content, error in (
        ("greet: hello {q}", UsageError),
        ("contextualise: no field", UsageError),
        ("contextualise: '{q} {d}'", UsageError),
        ("- a list", FormatError),
        ("a: [", FormatError),
    ):
        file.write_text(content)
        with pytest.raises(error):
            read_prompts(file)
    with pytest.raises(FormatError):
        read_prompts(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError):
        LocalWriter.from_pretrained(chat_model, prompts={"answer": Prompt("answer", "{x}", "mine")})


def test_settings_that_cannot_be_used(chat_model: Path) -> None:
    for make in (
        lambda: Sampling(temperature=-1),
        lambda: Sampling(max_tokens=0),
        lambda: LocalWriter.from_pretrained(chat_model, sampling={"greet": Sampling()}),
        lambda: LocalWriter.from_pretrained(chat_model, sampling=Sampling(parameters={"top_q": 1})),
        lambda: LocalWriter.from_pretrained(chat_model).answer(QUERIES, DOCUMENTS[:1]),
        lambda: LocalWriter.from_pretrained(chat_model).summarise(DOCUMENTS, words=0),
    ):
        with pytest.raises(UsageError):
            make()
    sampling = Sampling(0.5, 3, 9, {"top_p": 0.9, "max_tokens": None, "max_completion_tokens": 99})
    assert sampling.for_words(30) == {"temperature": 0.5, "seed": 3, "top_p": 0.9, "max_completion_tokens": 99}


def test_texts_are_read_as_written_and_as_edited(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    texts = [WrittenText("a", "ünï", "m", 0, "Who?"), WrittenText("b", "", "m", 2)]
    assert write_texts(file, texts) == 2
    assert read_texts(file) == {"a": texts[0], "b": texts[1]}
    assert read_texts(file)["b"].connector.round == 2
    file.write_text('{"id": "a", "text": "mine"}\n\n')
    assert read_texts(file)["a"].text == "mine"
    for bad in ("{", "[]", '{"id": "a"}', '{"id": 1, "text": ""}', '{"id": "a", "text": "", "round": "x"}'):
        file.write_text('{"id": "z", "text": ""}\n' + bad)
        with pytest.raises(RecordError, match=r"texts\.jsonl:2"):
            read_texts(file)
