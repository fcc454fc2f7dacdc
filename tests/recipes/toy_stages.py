"""Stages small enough for tests, that really compute: BM25 over a handful of documents, and a seeded, resumable fit."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np

from retgen.errors import MissingExtraError, UsageError
from retgen.evaluate import bleu1, bleu1_statistics, evaluate_run
from retgen.lexical import BM25
from retgen.recipes import StageContext, stage
from retgen.types import Document, Query, Run

DATA_VERSION = "1"


def _read(folder: Path, name: str) -> dict[str, dict[str, str]]:
    content: dict[str, dict[str, str]] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return content


@stage("toy-corpus", version=lambda: DATA_VERSION, needs=[])
def corpus(context: StageContext, lower: bool = False) -> None:
    content = json.loads(context.data_file("collection.json").read_text(encoding="utf-8"))
    if lower:
        content["documents"] = {key: text.lower() for key, text in content["documents"].items()}
    for name in ("documents", "questions", "relevant"):
        (context.folder / f"{name}.json").write_text(json.dumps(content[name]), encoding="utf-8")


@stage("toy-bm25", needs=["corpus"])
def bm25(context: StageContext, k1: float = 0.9, b: float = 0.4) -> None:
    folder = context.input("corpus")
    documents = [Document(key, str(text)) for key, text in _read(folder, "documents").items()]
    queries = [Query(key, str(text)) for key, text in _read(folder, "questions").items()]
    run = BM25.build(documents, k1=k1, b=b).search(queries)
    (context.folder / "run.json").write_text(json.dumps(run.to_dict()), encoding="utf-8")
    print("printed by a stage")


@stage("toy-fit", seeded=True, needs=["corpus", "run"])
def fit(context: StageContext, steps: int = 12, rate: float = 0.1) -> None:
    """A random prior over documents, added to BM25; one checkpoint a step, with the random state."""
    weights = np.zeros(len(_read(context.input("corpus"), "documents")))
    generator = np.random.default_rng(context.seed)
    checkpoint = context.scratch / "checkpoint.json"
    done = 0
    if checkpoint.exists():
        state = json.loads(checkpoint.read_text(encoding="utf-8"))
        done, weights, generator.bit_generator.state = state["done"], np.array(state["weights"]), state["random"]
        context.log(f"resumed after step {done}")
    for step in range(done, steps):
        weights += rate * generator.normal(size=weights.shape)
        state = {"done": step + 1, "weights": weights.tolist(), "random": generator.bit_generator.state}
        draft = checkpoint.with_suffix(".draft")
        draft.write_text(json.dumps(state), encoding="utf-8")
        draft.replace(checkpoint)
        context.progress(step + 1, steps)
        time.sleep(float(os.environ.get("TOY_STEP_SECONDS", "0")))
    base = _read(context.input("run"), "run")
    prior = dict(zip(_read(context.input("corpus"), "documents"), weights, strict=True))
    scores = {
        query: {doc: float(score) + float(prior[doc]) for doc, score in hits.items()} for query, hits in base.items()
    }
    (context.folder / "run.json").write_text(json.dumps(scores), encoding="utf-8")


@stage("toy-evaluate", needs=["corpus", "run"])
def evaluate(context: StageContext) -> None:
    qrels = {key: {str(doc): 1} for key, doc in _read(context.input("corpus"), "relevant").items()}
    run = Run.from_dict(
        {key: dict(hits) for key, hits in json.loads((context.input("run") / "run.json").read_text()).items()}
    )
    result = evaluate_run(run, qrels, ["RR@10", "R@1"])
    documents = _read(context.input("corpus"), "documents")
    statistics = {
        key: bleu1_statistics(str(documents[run.doc_ids(key)[0]]), [str(documents[next(iter(qrels[key]))])])
        for key in qrels
    }
    context.report(result.means, per_question=result.per_query)
    context.report(
        {"BLEU-1": float(bleu1(np.sum(list(statistics.values()), axis=0)))}, statistics={"BLEU-1": statistics}
    )


@stage("toy-memory", isolated=True)
def memory(context: StageContext, mebibytes: int = 64) -> None:
    block = np.ones(mebibytes * 2**20, dtype=np.uint8)
    context.progress(1, 2, "allocated")
    (context.folder / "sum.json").write_text(json.dumps(int(block.sum(dtype=np.int64))), encoding="utf-8")
    context.report({"bytes": int(block.nbytes), "process": str(os.getpid())})


@stage("toy-trouble")
def trouble(context: StageContext, what: str = "none") -> None:
    """Whatever can go wrong; nothing once the file TOY_MENDED names exists."""
    mended = os.environ.get("TOY_MENDED")
    if mended and Path(mended).exists():
        what = "none"
    match what:
        case "value-error":
            raise ValueError("three is not four")
        case "usage-error":
            raise UsageError("this cannot be used", where="some.file:3", mend="Use another")
        case "missing-extra":
            raise MissingExtraError("no_such_package", "dense")
        case "interrupt":
            raise KeyboardInterrupt
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "reserved-name":
            (context.folder / "stage.json").write_text("{}")
        case "wait":
            (context.scratch / "pid").write_text(str(os.getpid()))
            for _ in range(600):
                time.sleep(0.1)
    context.report({"ok": 1})


@stage("toy-numbers", seeded=True)
def numbers(context: StageContext, questions: int = 20, mean: float = 0.5) -> None:
    """Random values per question, so that tables can be checked by hand."""
    generator = random.Random(f"{context.seed} {mean}")
    values = {f"q{number}": generator.random() * mean * 2 for number in range(questions)}
    context.report({"R@1": sum(values.values()) / questions, "EM": None}, per_question={"R@1": values})
