"""Real clients that were not made for this server: OpenAI's SDK, Cohere's SDK, and plain HTTP of their shape."""

from __future__ import annotations

import cohere
import openai
import pytest

from tests.server.serving import Client

LAOS = "What is the capital of Laos?"
ASKED = [{"role": "user", "content": "Forget this."}, {"role": "assistant", "content": "Yes."}]


@pytest.fixture
def sdk(joint: Client) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{str(joint.http.base_url).rstrip('/')}/v1", api_key="any", max_retries=0)


def test_openai_plain(sdk: openai.OpenAI, joint: Client) -> None:
    said = sdk.chat.completions.create(
        model="retgen", messages=[*ASKED, {"role": "user", "content": LAOS}], temperature=0, max_tokens=5
    )  # type: ignore[list-item]
    answer = joint.post("/v1/answer", {"question": LAOS})
    (choice,) = said.choices
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content == f"{answer['answer']} [1]"
    assert choice.message.citations == answer["citations"]  # type: ignore[attr-defined]
    assert said.model == "retgen"
    assert said.usage is not None
    assert said.usage.total_tokens == said.usage.prompt_tokens + said.usage.completion_tokens > 0
    assert [model.id for model in sdk.models.list()] == ["retgen", "jpr"]


def test_openai_streaming(sdk: openai.OpenAI, joint: Client) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": LAOS}]}
    whole = joint.post("/v1/chat/completions", {"model": "retgen", "messages": [message]})
    stream = sdk.chat.completions.create(
        model="retgen", messages=[message], stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[0].choices[0].delta.role == "assistant"
    last = chunks[-2].choices[0]
    assert last.finish_reason == "stop"
    assert last.delta.citations == whole["choices"][0]["message"]["citations"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.model_dump(exclude_none=True) == whole["usage"]
    assert all(chunk.id == chunks[0].id for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_is_events_and_done(plain: Client) -> None:
    body = {"model": "retgen", "stream": True, "messages": [{"role": "user", "content": LAOS}]}
    response = plain.http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])


def test_openai_s_errors_are_its_own(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])
    assert caught.value.body["mend"] == "There are: retgen, jpr"  # type: ignore[index]
    with pytest.raises(openai.UnprocessableEntityError):
        sdk.chat.completions.create(model="retgen", messages=[{"role": "user", "content": " "}])
    with pytest.raises(openai.UnprocessableEntityError, match="n"):
        sdk.chat.completions.create(model="retgen", messages=[{"role": "user", "content": "x"}], n=2)


def test_cohere(joint: Client) -> None:
    texts = ["Iron is a metal.", "Vientiane is the capital of Laos.", "Gold is heavy."]
    mine = joint.post("/v1/rerank", {"query": LAOS, "documents": texts})["results"]
    client = cohere.ClientV2(api_key="any", base_url=str(joint.http.base_url).rstrip("/"))
    said = client.rerank(model="retgen", query=LAOS, documents=texts, top_n=2)
    assert [(r.index, r.relevance_score) for r in said.results] == [
        (r["index"], pytest.approx(r["relevance_score"], abs=1e-5)) for r in mine[:2]
    ]
    older = cohere.Client(api_key="any", base_url=str(joint.http.base_url).rstrip("/"))
    first = older.rerank(model="retgen", query=LAOS, documents=[{"text": t} for t in texts], return_documents=True)
    assert [result.index for result in first.results] == [result["index"] for result in mine]
    assert first.results[0].document is not None
    assert first.results[0].document.text == texts[first.results[0].index]


def test_a_client_of_jina_s_shape(joint: Client) -> None:
    body = {
        "model": "jpr",
        "query": LAOS,
        "documents": ["Iron is a metal.", "Laos."],
        "top_n": 1,
        "return_documents": True,
        "truncation": True,
    }
    response = joint.http.post("/v1/rerank", json=body, headers={"Authorization": "Bearer any"})
    (result,) = response.json()["results"]
    assert result["document"]["text"] == body["documents"][result["index"]]  # type: ignore[index]
