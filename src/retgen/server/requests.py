"""What clients send: the bodies of requests, checked field by field. How much is allowed in all, `limits` says."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_UNUSABLE_IN_ID = re.compile("[\0-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def _storable(text: str) -> str:
    if _UNUSABLE.search(text):
        raise ValueError("holds a NUL or half of a surrogate pair, which is no text")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


def _document_id(text: str) -> str:
    if _UNUSABLE_IN_ID.search(text):
        raise ValueError("holds a control character or half of a surrogate pair")
    if text != text.strip():
        raise ValueError("begins or ends with white space")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Question = Annotated[str, Field(min_length=1), AfterValidator(_storable), AfterValidator(_not_blank)]
DocumentId = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_document_id)]
Scalar = Annotated[Text | bool | int | float, Field(union_mode="left_to_right")]
Filters = Annotated[
    dict[Text, Scalar],
    Field(
        max_length=32,
        description="Keep documents whose metadata have all of these values (for a list: one of its values).",
        examples=[{"kind": "country"}],
    ),
]
GeneratorWeight = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="λ of the joint re-ranker for this request alone: the generator's share, 0 to 1.",
    ),
]
_WITH = "The retriever: `bm25`; `dense` or `doct5query` where the index has it; `unigen` where a model is loaded."


class Request(BaseModel):
    """A body of this server's own shape: a field it does not know is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)


class SearchRequest(Request):
    """Find passages."""

    query: Question = Field(description="The question.", examples=["Which language is spoken in Laos?"])
    top_k: int = Field(10, ge=1, le=1000, description="At most so many hits.")
    with_: Text | None = Field(None, alias="with", description=f"{_WITH} By default the pipeline's.")
    filters: Filters | None = None
    rerank: bool | None = Field(
        None, description="Whether the pipeline's re-ranker orders the hits anew; by default it does if there is one."
    )
    generator_weight: GeneratorWeight | None = None


class AnswerRequest(Request):
    """Answer a question."""

    question: Question = Field(description="The question.", examples=["Which language is spoken in Laos?"])
    top_k: int | None = Field(
        None, ge=1, le=100, description="Passages the answer is read from; by default the reader's own number."
    )
    rounds: int = Field(
        0, ge=0, le=5, description="Further rounds of a loaded UniGen, each with what the last found and said."
    )
    with_: Text | None = Field(None, alias="with", description=f"{_WITH} By default the pipeline's.")
    filters: Filters | None = None
    generator_weight: GeneratorWeight | None = None


class ExplainRequest(Request):
    """Why a passage stands where it does."""

    query: Question = Field(description="The question.", examples=["Which language is spoken in Laos?"])
    doc_id: DocumentId = Field(
        description="The passage: a `passage_id` of a search, or a document's id.", examples=["country/laos"]
    )


class TextDocument(BaseModel):
    """A text to rank, as an object."""

    model_config = ConfigDict(extra="ignore")

    text: Text
    title: Text = ""


class RerankRequest(BaseModel):
    """Order texts by how well they fit a query: the shape of Cohere's and Jina's re-rank endpoints."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    query: Question = Field(examples=["Which language is spoken in Laos?"])
    documents: list[Text | TextDocument] = Field(
        min_length=1, examples=[["Lao is spoken in Laos.", "Iron is a metal."]]
    )
    model: Text | None = Field(None, description="One of `/v1/models`; left out, `retgen`.", examples=["retgen"])
    top_n: int | None = Field(None, ge=1, description="Give the best so many; by default all.")
    return_documents: bool = Field(False, description="Give the texts too.")


class NewDocument(Request):
    """A document to add."""

    id: DocumentId | None = Field(None, description="Left out, the server makes one.", examples=["notes/laos"])
    text: Text = Field(min_length=1, examples=["Vientiane lies on the Mekong."])
    title: Text = Field("", examples=["Vientiane"])
    metadata: dict[Text, Scalar | list[Scalar]] = Field(default_factory=dict, max_length=64)


class AddRequest(Request):
    """Documents to add, all or none."""

    documents: list[NewDocument] = Field(min_length=1)
    replace: bool = Field(False, description="Put them in the place of documents with these ids, if there are any.")


class MessagePart(BaseModel):
    """A part of a message; texts alone are read."""

    model_config = ConfigDict(extra="ignore")

    type: Text
    text: Text | None = None


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[MessagePart] | None = None

    @property
    def text(self) -> str:
        """Its text parts as one."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """OpenAI's chat completion. The last user message is the question; sampling parameters have nothing to act on."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: Text = Field(description="One of `/v1/models`.", examples=["retgen"])
    messages: list[Message] = Field(
        min_length=1, examples=[[{"role": "user", "content": "Which language is spoken in Laos?"}]]
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(1, ge=1, le=1, description="One answer is given.")
    tools: list[Any] | None = Field(None, max_length=0, description="Tools cannot be called.")
