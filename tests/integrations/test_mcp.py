"""The official MCP client, over standard input and output, with the real ``retgen mcp``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="mcp is not installed (extra: integrations)")

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from retgen.almanac import AlmanacQuestion
from retgen.answer import BestSpan
from retgen.index import Index
from retgen.rerank.cross_encoder import CrossEncoder
from retgen.types import Document, Query
from tests.rerank.classifiers import save_classifier

QUESTION = "Which country has its capital in Paris?"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS",)}


def talk(arguments: list[str], conversation: Callable[[Client], Awaitable[Any]], log: Path) -> Any:
    """What a conversation with ``retgen mcp`` gives; what the server writes to standard error goes to the log."""

    async def session() -> Any:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "retgen", "mcp", *arguments],
            env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        )
        with log.open("w") as errors:
            async with Client(stdio_client(server, errlog=errors), read_timeout_seconds=300) as client:
                return await conversation(client)

    return asyncio.run(session())


def test_a_conversation(index_folder: Path, index: Index, asked: AlmanacQuestion, tmp_path: Path) -> None:
    """One process for all: its start outlasts its answers."""
    given = ["Iron rusts in wet air.", "Gold is yellow.", "Gold does not rust in wet air or water."]

    async def conversation(client: Client) -> dict[str, Any]:
        calls: dict[str, tuple[str, dict[str, Any]]] = {
            "search": ("search", {"query": QUESTION, "k": 5}),
            "filtered": ("search", {"query": QUESTION, "k": 5, "filters": {"kind": "country"}}),
            "nothing": ("search", {"query": "?!"}),
            "ask": ("ask", {"question": asked.text, "k": 1}),
            "rerank": ("rerank", {"query": "which metal is yellow?", "documents": given}),
            "best": ("rerank", {"query": "which metal is yellow?", "documents": given, "top_n": 1}),
            "none": ("rerank", {"query": "gold", "documents": []}),
            "k too large": ("search", {"query": QUESTION, "k": 101}),
            "k too small": ("ask", {"question": QUESTION, "k": 0}),
            "no question": ("ask", {}),
            "empty question": ("search", {"query": ""}),
            "not a number": ("search", {"query": QUESTION, "k": "many"}),
            "no such tool": ("delete", {"query": QUESTION}),
        }
        found: dict[str, Any] = {"tools": await client.list_tools()}
        for name, (tool, arguments) in calls.items():
            try:
                found[name] = await client.call_tool(tool, arguments)
            except Exception as error:
                found[name] = error
        together = [client.call_tool("search", {"query": QUESTION, "k": 5}) for _ in range(8)]
        found["together"] = await asyncio.gather(*together)
        return found

    log = tmp_path / "log"
    found = talk([str(index_folder)], conversation, log)

    tools = {tool.name: tool for tool in found["tools"].tools}
    assert set(tools) == {"search", "ask", "rerank"}
    assert tools["search"].input_schema["required"] == ["query"]
    assert tools["search"].input_schema["properties"]["k"]["maximum"] == 100
    assert all(tool.description and tool.annotations.read_only_hint for tool in tools.values())

    def told(name: str) -> dict[str, Any]:
        result = found[name]
        assert not result.is_error, result.content
        (block,) = result.content
        assert json.loads(block.text) == result.structured_content
        value: dict[str, Any] = result.structured_content
        return value

    expected = index.search([Query("q", QUESTION)], 5)["q"]
    results = told("search")["results"]
    assert [(each["doc_id"], each["score"], each["rank"]) for each in results] == [
        (hit.doc_id, hit.score, hit.rank) for hit in expected
    ]
    assert [each["text"] for each in results] == [index.corpus[hit.doc_id].text for hit in expected]
    assert {each["metadata"]["kind"] for each in told("filtered")["results"]} == {"country"}
    assert told("nothing")["results"] == []
    assert all(result.structured_content == told("search") for result in found["together"])

    answer = told("ask")
    run = index.search([Query("q", asked.text)], 10)
    own = BestSpan(3).answer([Query("q", asked.text)], run, index.corpus)[0]
    assert answer["answer"] == own.text
    (citation,) = answer["citations"]
    passage = next(each for each in answer["passages"] if each["doc_id"] == citation["doc_id"])
    assert passage["text"][citation["start"] : citation["end"]] == own.text

    reranked = told("rerank")
    assert reranked["by"] == "bm25"
    assert reranked["results"][0]["index"] == 1
    assert sorted(each["index"] for each in reranked["results"]) == [0, 1, 2]
    assert told("best")["results"] == reranked["results"][:1]
    assert told("none")["results"] == []

    for name in ("k too large", "k too small", "no question", "empty question", "not a number", "no such tool"):
        assert isinstance(found[name], Exception) or found[name].is_error, name
    assert "Traceback" not in log.read_text()


def test_with_a_cross_encoder_everything_is_ordered_by_it(index_folder: Path, index: Index, tmp_path: Path) -> None:
    folder = str(save_classifier(tmp_path / "cross-encoder"))

    async def conversation(client: Client) -> list[Any]:
        return [
            await client.call_tool("search", {"query": QUESTION, "k": 3}),
            await client.call_tool("rerank", {"query": QUESTION, "documents": ["Gold melts.", "Paris is a capital."]}),
        ]

    options = [str(index_folder), "--cross-encoder", folder, "--device", "cpu", "--passage-characters", "40"]
    search, rerank = talk(options, conversation, tmp_path / "log")
    model = CrossEncoder.from_pretrained(folder, device="cpu")
    query = Query("q", QUESTION)
    expected = model.rerank([query], index.search([query], 100), index.corpus, 3)["q"]
    results = search.structured_content["results"]
    assert [each["doc_id"] for each in results] == [hit.doc_id for hit in expected]
    assert all(each["cut"] and len(each["text"]) == 40 for each in results)
    assert set(results[0]["components"]) == {"bm25", "cross_encoder"}
    assert rerank.structured_content["by"] == "cross_encoder"
    scores = model.predict([(QUESTION, "Gold melts."), (QUESTION, "Paris is a capital.")])
    for each in rerank.structured_content["results"]:
        assert each["relevance_score"] == pytest.approx(float(scores[each["index"]]), abs=1e-4)


def test_a_wrong_start_is_told_on_standard_error(tmp_path: Path) -> None:
    for arguments, status, said in (
        ([str(tmp_path / "nowhere")], 1, "there is no such folder"),
        (["somewhere", "--model", "a", "--reader", "b"], 2, "finds and answers by itself"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "retgen", "mcp", *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert (done.returncode, done.stdout) == (status, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_it_ends_when_the_client_goes(index_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "retgen", "mcp", str(index_folder)],
        capture_output=True,
        text=True,
        check=False,
        input="",
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_documents_need_no_titles() -> None:
    """A server in this process over a pipeline: what it shows of a passage without title or metadata."""
    from retgen.integrations.finding import Finder
    from retgen.integrations.mcp import build_server
    from retgen.integrations.ordering import Orderer, WordsInCommon
    from retgen.lexical import BM25

    documents = {"a": Document("a", "Gold is yellow.")}
    retriever = BM25.build(documents.values())
    finder = Finder(retriever.over(documents))
    server = build_server(finder, Finder((retriever >> BestSpan()).over(documents)), Orderer(WordsInCommon()))

    async def session() -> list[Any]:
        async with Client(server) as client:
            return [
                await client.call_tool("search", {"query": "gold"}),
                await client.call_tool("search", {"query": "gold", "filters": {"kind": "metal"}}),
                await client.call_tool("ask", {"question": "what is yellow?"}),
            ]

    plain, filtered, answered = asyncio.run(session())
    (shown,) = plain.structured_content["results"]
    assert (shown["title"], shown["metadata"], shown["text"]) == ("", {}, "Gold is yellow.")
    assert filtered.is_error
    assert "a pipeline takes no filter" in filtered.content[0].text
    assert answered.structured_content["answer"]
