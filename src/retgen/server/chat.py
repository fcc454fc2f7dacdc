"""`/v1/chat/completions`: answers in OpenAI's shape, whole or as a stream; citations beside the text and in it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from retgen.server.answering import NO_ANSWER, Answered, AnswerJob, check_answer
from retgen.server.asking import (
    COMMON,
    PIPELINE,
    Deadline,
    RequestId,
    Served,
    check_model,
    check_question,
    failing,
    now,
    pairs,
)
from retgen.server.failures import RequestError
from retgen.server.finding import Asked
from retgen.server.requests import ChatRequest
from retgen.server.responses import (
    ChatChoice,
    ChatChunk,
    ChatDelta,
    ChatMessage,
    ChatResponse,
    ChunkChoice,
    Citation,
    Usage,
)
from retgen.server.service import ANSWER

router = APIRouter()
_PIECE = re.compile(r"\s*\S+|\s+$")
_STREAM = {
    "description": "The completion; with `stream`, server-sent events of its pieces, then `[DONE]`.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.post(
    "/v1/chat/completions",
    tags=["answers"],
    response_model=ChatResponse,
    responses={200: _STREAM, **COMMON, **failing(404)},
    summary="Answer as OpenAI's chat completions do",
)
async def complete(
    body: ChatRequest, service: Served, deadline: Deadline, id: RequestId
) -> ChatResponse | StreamingResponse:
    """The last user message is the question; other messages are not read, as the pipeline has no memory.

    The text has marks such as `[1]`, and `message.citations` says what they stand for. A stream begins when the answer
    is whole: its pieces save a client's buffering, not its waiting.
    """
    parts = service.parts
    check_model(parts, body.model)
    asked = Asked(check_question(service, question(body), "messages"), parts.top_k, parts.retriever)
    job = AnswerJob(f"chatcmpl-{id}", asked)
    check_answer(parts, job)
    made: Answered = await service.run(ANSWER, job, deadline, pairs(parts, asked))
    text, citations = written(made)
    usage = Usage(
        prompt_tokens=made.question_tokens,
        completion_tokens=made.answer_tokens,
        total_tokens=made.question_tokens + made.answer_tokens,
    )
    created = now()
    if body.stream:
        tail = usage if body.stream_options is not None and body.stream_options.include_usage else None
        chunks = stream(job.id, created, text, citations, tail)
        return StreamingResponse(chunks, media_type="text/event-stream")
    return ChatResponse(
        id=job.id,
        created=created,
        model=PIPELINE,
        choices=[ChatChoice(message=ChatMessage(content=text, citations=citations))],
        usage=usage,
    )


def question(body: ChatRequest) -> str:
    """The last user message.

    Raises:
        RequestError: there is none, or it has no text.
    """
    asked = next((message.text for message in reversed(body.messages) if message.role == "user"), "")
    if not asked.strip():
        raise RequestError(
            422, "invalid_request", "there is no user message with a text", where="messages", mend="Ask a question"
        )
    return asked


def written(made: Answered) -> tuple[str, list[Citation]]:
    """The answer's text with its marks, and what they stand for."""
    found = made.response
    if not found.answer:
        return NO_ANSWER, []
    marks = "".join(f"[{citation.mark}]" for citation in found.citations)
    return f"{found.answer} {marks}".rstrip(), found.citations


async def stream(
    id: str, created: int, text: str, citations: list[Citation], usage: Usage | None
) -> AsyncIterator[str]:
    """The pieces of an answer as server-sent events."""

    def event(delta: ChatDelta | None, finish: bool = False, told: Usage | None = None) -> str:
        choices = [] if delta is None else [ChunkChoice(delta=delta, finish_reason="stop" if finish else None)]
        chunk = ChatChunk(id=id, created=created, model=PIPELINE, choices=choices, usage=told).model_dump()
        for choice in chunk["choices"]:
            choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    yield event(ChatDelta(role="assistant", content=""))
    for piece in _PIECE.findall(text):
        yield event(ChatDelta(content=piece))
    yield event(ChatDelta(citations=citations), finish=True)
    if usage is not None:
        yield event(None, told=usage)
    yield "data: [DONE]\n\n"
