"""What clients get: the bodies of responses. Scores are raw (logits, log-likelihoods), never behind a sigmoid."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    """What is wrong and what to do about it."""

    type: str = Field(description="A name that programs may rely on.", examples=["usage_error"])
    message: str = Field(description="What is wrong, in one sentence.")
    mend: str | None = Field(None, description="What can be done about it.")
    where: str | None = Field(None, description="The field of the request that it is about.")
    request_id: str = Field(description="As in the X-Request-ID header and in the server's log.")


class ErrorResponse(BaseModel):
    """Every answer whose status is 400 or more."""

    error: ErrorDetail


class Passage(BaseModel):
    """A passage as the index holds it: a whole document, or a chunk of one."""

    id: str = Field(description="The document.", examples=["country/laos"])
    passage_id: str = Field(description="The passage: the document itself, or the chunk of it.")
    title: str
    text: str
    metadata: dict[str, object] = Field(default_factory=dict)
    score: float = Field(description="What the final order is by.")
    components: dict[str, float] = Field(
        description="Raw scores by name: `bm25`, `dense`, `unigen`, `cross_encoder`, `generator`, `joint`.",
        examples=[{"bm25": 7.1, "cross_encoder": 3.2, "generator": -1.4, "joint": -0.6}],
    )


class SearchHit(Passage):
    """One hit; in a chunked index a document stands where its best chunk does."""

    rank: int = Field(description="From 1, in the final order.")
    rank_before: int = Field(description="From 1, as it was retrieved, before the re-ranker.")


class SearchResponse(BaseModel):
    """The hits of one query, best first."""

    id: str
    query: str
    retriever: str = Field(examples=["bm25"])
    reranker: str | None = Field(None, examples=["jpr"])
    weights: dict[str, float] = Field(
        default_factory=dict, description="Component → its share in the re-ranker's order, e.g. the two parts of jpr."
    )
    hits: list[SearchHit]


class RerankedDocument(BaseModel):
    """The text that was sent."""

    text: str
    title: str | None = None


class RerankResult(BaseModel):
    """One text's place."""

    index: int = Field(description="Its number among the texts sent, from 0.")
    relevance_score: float = Field(description="Raw: higher is better, any real number, no probability.")
    components: dict[str, float] = Field(default_factory=dict)
    document: RerankedDocument | None = None


class ApiVersion(BaseModel):
    """As Cohere's clients read it."""

    version: str = "1"


class RerankMeta(BaseModel):
    """As Cohere's clients read it."""

    api_version: ApiVersion = Field(default_factory=ApiVersion)


class RerankResponse(BaseModel):
    """Texts by falling score; ties in the order sent."""

    id: str
    model: str = Field(description="What scored them.", examples=["jpr"])
    results: list[RerankResult]
    meta: RerankMeta = Field(default_factory=RerankMeta)


class Citation(BaseModel):
    """A passage behind an answer."""

    mark: int = Field(description="From 1: as `[1]` in the text of a chat completion.")
    doc_id: str
    passage_id: str
    title: str
    start: int | None = Field(description="Where the answer stands in the passage's text, in characters.")
    end: int | None = Field(description="Where it ends there.")
    text: str = Field(description="What stands there.")
    basis: Literal["read", "alongside"] = Field(
        description="`read`: the answer was read from this passage. `alongside`: it was written by a model that did "
        "not read the passage, which was retrieved beside it and holds its words."
    )
    share: float | None = Field(None, description="What the passage had in the answer, 0 to 1, where a reader says.")


class AnswerPassage(Passage):
    """A passage on its way through the pipeline."""

    rank_retrieved: int = Field(description="From 1: the column `retrieved`.")
    rank_reranked: int | None = Field(description="From 1: the column `reranked`; null without a re-ranker.")
    used: bool = Field(description="Whether the answer was read from it and others: the column `used`.")
    answer_spans: list[tuple[int, int]] = Field(
        description="Where the answer's words stand in the text, in characters; for highlighting."
    )


class Columns(BaseModel):
    """The pipeline's columns: passage ids, best first."""

    retrieved: list[str]
    reranked: list[str]
    used: list[str]


class RoundHit(BaseModel):
    """A hit of one round."""

    id: str
    passage_id: str
    title: str
    rank: int
    score: float


class Round(BaseModel):
    """What one round saw and said; round 0 is the first."""

    round: int
    input: str = Field(description="What the model read: the question, or its context as a writer made it.")
    writer: str | None = Field(description="Who wrote that context; null where the model read the question.")
    hits: list[RoundHit]
    answer: str
    score: float | None


class AnswerResponse(BaseModel):
    """An answer with what it stands on."""

    id: str
    model: str
    question: str
    answer: str = Field(description="Empty where none was found.")
    answerable: float | None = Field(
        None, description="How likely the answer is right, 0 to 1, where its reader is calibrated."
    )
    score: float | None = Field(None, description="The reader's own: a log-probability, or a span's score.")
    citations: list[Citation]
    passages: list[AnswerPassage] = Field(description="Every passage that was retrieved, in the final order.")
    columns: Columns
    retriever: str
    reranker: str | None
    weights: dict[str, float] = Field(default_factory=dict)
    rounds: list[Round]


class TokenScore(BaseModel):
    """A token and what it got."""

    token: str = Field(description="As the model or the analyser has it.")
    text: str = Field(description="As people read it.")
    score: float
    special: bool = Field(False, description="A mark of the tokenizer's, such as the end of the text.")


class ExplainedPart(BaseModel):
    """What one part of the pipeline says of a passage."""

    part: str = Field(examples=["generator"])
    components: dict[str, float]
    tokens_of: Literal["query", "passage"] | None = Field(description="Which text the tokens are of.")
    tokens: list[TokenScore]


class ExplainResponse(BaseModel):
    """Why a passage stands where it does."""

    query: str
    doc_id: str
    passage_id: str
    components: dict[str, float] = Field(description="Raw scores of all parts by name.")
    parts: list[ExplainedPart] = Field(
        description="`bm25`: terms of the query. `generator`: tokens of the query, each with its log-likelihood under "
        "the passage (nats, ≤ 0). `cross_encoder`: words of the passage, and what each adds to the logit."
    )


class DocumentSummary(BaseModel):
    """A document in a list."""

    id: str
    title: str
    snippet: str = Field(description="The beginning of its text.")
    characters: int | None = Field(description="Length of its text.")
    metadata: dict[str, object] = Field(default_factory=dict)


class DocumentList(BaseModel):
    """A page of the documents, in the order of the index."""

    documents: list[DocumentSummary]
    total: int
    offset: int
    next_offset: int | None = Field(description="Where the next page begins; null at the end.")


class PassagePlace(BaseModel):
    """Where a chunk stands in its document."""

    passage_id: str
    start: int
    end: int


class DocumentResponse(BaseModel):
    """A document, whole."""

    id: str
    title: str
    text: str = Field(description="In a chunked index joined from its chunks: white space between them is one space.")
    metadata: dict[str, object] = Field(default_factory=dict)
    passages: list[PassagePlace] = Field(description="Its chunks; of a document that is not cut, one.")


class AddResponse(BaseModel):
    """What was added. It can be found as soon as this is sent, and after a restart."""

    added: list[str]
    replaced: list[str]
    documents: int = Field(description="How many documents there are now.")


class DeleteResponse(BaseModel):
    """What was removed. It is not found as soon as this is sent, nor after a restart."""

    removed: str
    documents: int = Field(description="How many documents there are now.")


class Model(BaseModel):
    """A name that requests may give as `model`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "retgen"


class ModelList(BaseModel):
    """As OpenAI's clients read it."""

    object: Literal["list"] = "list"
    data: list[Model]


class RerankerView(BaseModel):
    """The re-ranker that is loaded."""

    kind: Literal["cross-encoder", "query-likelihood", "jpr"]
    components: list[str]
    weights: dict[str, float]


class LimitsView(BaseModel):
    """What a request may hold."""

    body_bytes: int
    query_characters: int
    document_characters: int
    documents: int
    deadline_seconds: float


class PipelineResponse(BaseModel):
    """What this server is made of: for pages and clients that want to show only what there is."""

    version: str
    index: str = Field(description="The index' name.")
    documents: int
    chunked: bool
    retriever: str = Field(description="The default one.")
    retrievers: list[str]
    candidates: int = Field(description="Passages that are retrieved for the re-ranker and the reader.")
    reranker: RerankerView | None
    answerer: Literal["best-span", "unigen", "fid", "rag", "closed-book"]
    top_k: int = Field(description="Passages the answerer reads unless told otherwise.")
    rounds: bool = Field(description="Whether `rounds` of `/v1/answer` may be above 0.")
    explains: list[str] = Field(description="Parts that `/v1/explain` has something to say of.")
    can_change: bool = Field(description="Whether documents can be added and removed.")
    cannot_change_because: str | None
    limits: LimitsView


class Health(BaseModel):
    """Whether the server lives, or is ready."""

    status: Literal["ok", "ready", "draining", "broken"]


class ChatMessage(BaseModel):
    """The answer; `citations` is this server's own field beside OpenAI's."""

    role: Literal["assistant"] = "assistant"
    content: str = Field(description="The answer with its marks, e.g. `Lao [1]`.")
    refusal: None = None
    citations: list[Citation] = Field(default_factory=list)


class ChatChoice(BaseModel):
    """The one choice."""

    index: int = 0
    message: ChatMessage
    logprobs: None = None
    finish_reason: Literal["stop"] = "stop"


class Usage(BaseModel):
    """Tokens: by the answerer's tokenizer, or words where it has none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatResponse(BaseModel):
    """OpenAI's chat completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str | None = None


class ChatDelta(BaseModel):
    """A piece of the answer; the citations come with the last one."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    citations: list[Citation] | None = None


class ChunkChoice(BaseModel):
    """The one choice of a piece."""

    index: int = 0
    delta: ChatDelta
    logprobs: None = None
    finish_reason: Literal["stop"] | None = None


class ChatChunk(BaseModel):
    """A piece of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
