"""What `retgen serve` sustains, what it does at twice that, and what batching gives over one by one.

A server, a process of its own on a free port of 127.0.0.1, re-ranks the almanac's passages with JPR: a cross-encoder
and a generator with random weights (``--size``), whose time is what a trained pair of that size takes. Its peer is the
same server with ``--batch 1``.

1. The same questions to both, as many at a time as ``--concurrency`` says, in turns. Every response must be the peer's,
   but for the last digits of scores. The ratio is the questions a second of the one over those of the other.
2. Twice the batching server's rate for ``--seconds``, every request at its time whether or not the ones before were
   answered. Counted: responses by status, the times of those accepted against the deadline (by the server's log, as the
   client takes its processor's time too; and as the client saw them), and the server's memory at the start and the end.
   The benchmark fails where anything but 200 and 503 came, where the 99th percentile of the accepted is over the
   deadline, or where memory grew by more than ``--growth``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from retgen import almanac
from retgen.index import Index

SIZES = {"tiny": (32, 1), "mini": (128, 2), "small": (256, 4)}
"""Width and layers of both models."""


def save_models(folder: Path, size: str) -> dict[str, str]:
    """A BERT that scores pairs and a T5, with random weights and tokenizers of the almanac's words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, T5Config, T5ForConditionalGeneration

    from retgen.models.scratch import train_tokenizer

    torch.manual_seed(0)
    width, layers = SIZES[size]
    tokenizer = train_tokenizer([document.contents for document in almanac.documents()], 4000)
    shape = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4}
    pad = tokenizer.pad_token_id
    config = BertConfig(**shape, vocab_size=len(tokenizer), intermediate_size=4 * width, num_labels=1, pad_token_id=pad)
    BertForSequenceClassification(config).save_pretrained(folder / "cross-encoder")
    seq2seq = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=width // 4, d_ff=2 * width, num_layers=layers, num_heads=4,
        pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    T5ForConditionalGeneration(seq2seq).save_pretrained(folder / "generator")
    for name in ("cross-encoder", "generator"):
        tokenizer.save_pretrained(folder / name)
    return {"--cross-encoder": str(folder / "cross-encoder"), "--generator": str(folder / "generator")}


@contextmanager
def served(index: Path, models: dict[str, str], log: Path, *options: str) -> Iterator[tuple[str, int]]:
    """The URL of a server, and its process' number."""
    command = [sys.executable, "-m", "retgen", "serve", str(index), "--port", "0", "--json", "--read-only", *options]
    command += [part for pair in models.items() for part in pair]
    environment = {**os.environ, "RETGEN_API_KEY": ""}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"the server did not start: {log.read_text()[-2000:]}")
            yield json.loads(line)["url"], process.pid
        finally:
            process.terminate()
            process.wait(120)


def same(one: Any, other: Any) -> bool:
    """Equal but for ids and the last digits of scores."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one if name != "id")
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-3
    return bool(one == other)


def request(route: str, question: str) -> dict[str, object]:
    return {"question": question} if route == "answer" else {"query": question, "top_k": 5}


async def ask(client: httpx2.AsyncClient, route: str, question: str, **headers: str) -> httpx2.Response:
    return await client.post(f"/v1/{route}", json=request(route, question), headers=headers)


async def rate(url: str, route: str, questions: Sequence[str], concurrency: int) -> tuple[float, list[Any]]:
    """Questions a second with so many under way at a time, and the responses."""
    limits = httpx2.Limits(max_connections=concurrency)
    async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as client:
        waiting = iter(enumerate(questions))
        found: list[Any] = [None] * len(questions)

        async def work() -> None:
            for number, question in waiting:
                # All of them are to be answered, however long it takes.
                response = await ask(client, route, question, **{"X-Deadline-Seconds": "300"})
                if response.status_code != 200:
                    raise SystemExit(f"status {response.status_code}: {response.text[:300]}")
                found[number] = response.json()

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return len(questions) / (time.perf_counter() - begin), found


@dataclass
class Load:
    """What came of a stretch of load."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: int = 0
    without_retry_after: int = 0
    unsent: int = 0


async def offered(url: str, route: str, questions: Sequence[str], per_second: float, seconds: float, most: int) -> Load:
    """Requests at a rate, each at its time; at most ``most`` are under way, the rest are counted as unsent."""
    load = Load()
    rng = random.Random(0)
    under_way: set[asyncio.Task[None]] = set()
    limits = httpx2.Limits(max_connections=most)
    async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as client:

        async def one() -> None:
            begin = time.perf_counter()
            try:
                response = await ask(client, route, rng.choice(questions))
            except httpx2.TransportError:
                load.failures += 1
                return
            load.statuses[response.status_code] += 1
            if response.status_code == 200:
                load.seconds.append(time.perf_counter() - begin)
            elif "retry-after" not in response.headers:
                load.without_retry_after += 1

        begin = time.perf_counter()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, begin + number / per_second - time.perf_counter()))
            if len(under_way) >= most:
                load.unsent += 1
                continue
            task = asyncio.create_task(one())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    return load


def answered(log: Path) -> list[float]:
    """Seconds from request to response, by the server's own log, of all it answered by 200."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line["milliseconds"] / 1000 for line in lines if line.get("status") == 200 and line["method"] == "POST"]


def memory(pid: int) -> float:
    """A process' resident memory in MiB."""
    import psutil

    return float(psutil.Process(pid).memory_info().rss) / 2**20


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def measure(options: argparse.Namespace, home: Path) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what is wrong with them."""
    index = home / "index"
    Index.build(almanac.documents(), index)
    models = save_models(home, options.size)
    questions = [question.text for question in almanac.questions("test")][: options.questions]
    common = ("--candidates", str(options.candidates), "--deadline", str(options.deadline))
    faults: list[str] = []
    with (
        served(index, models, home / "one.log", *common, "--batch", "1") as (one_url, _),
        served(index, models, home / "many.log", *common, "--batch", str(options.batch)) as (many_url, pid),
    ):
        rates: dict[str, list[float]] = {"one": [], "many": []}
        for url in (one_url, many_url):
            asyncio.run(rate(url, options.route, questions[:8], 4))  # warm
        for turn in range(options.turns):
            print(f"turn {turn + 1} of {options.turns}", file=sys.stderr)
            alone_rate, alone = asyncio.run(rate(one_url, options.route, questions, options.concurrency))
            batched_rate, batched = asyncio.run(rate(many_url, options.route, questions, options.concurrency))
            rates["one"].append(alone_rate)
            rates["many"].append(batched_rate)
            unlike = sum(not same(one, other) for one, other in zip(alone, batched, strict=True))
            if unlike:
                faults.append(f"turn {turn + 1}: {unlike} of {len(questions)} answers differ from one by one")
        sustained = max(rates["many"])
        print(f"{sustained:.1f} a second sustained; twice that for {options.seconds:g} s", file=sys.stderr)
        before = memory(pid)
        already = len(answered(home / "many.log"))
        load = asyncio.run(offered(many_url, options.route, questions, 2 * sustained, options.seconds, options.most))
        after = memory(pid)
        own = answered(home / "many.log")[already:]
    best = sorted(many / one for one, many in zip(rates["one"], rates["many"], strict=True))
    p99 = percentile(own, 0.99)
    if set(load.statuses) - {200, 503} or load.failures:
        faults.append(f"other than 200 and 503: {dict(load.statuses)}, {load.failures} without an answer")
    if load.without_retry_after:
        faults.append(f"{load.without_retry_after} refusals without Retry-After")
    if not own or p99 > options.deadline:
        faults.append(f"the 99th percentile of the accepted, {p99:.2f} s, is over the deadline")
    if after - before > options.growth:
        faults.append(f"memory grew by {after - before:.0f} MiB")
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "settings": {name: value for name, value in vars(options).items() if name != "json"},
        "one_by_one_per_second": rates["one"],
        "batched_per_second": rates["many"],
        "ratio": best[len(best) // 2],
        "offered_per_second": 2 * sustained,
        "statuses": {str(status): number for status, number in sorted(load.statuses.items())},
        "unsent": load.unsent,
        "accepted_p50_seconds": percentile(own, 0.5),
        "accepted_p99_seconds": p99,
        "accepted_p99_seconds_of_the_client": percentile(load.seconds, 0.99),
        "accepted_per_second": len(load.seconds) / options.seconds,
        "memory_start_mib": before,
        "memory_end_mib": after,
    }, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="of twice the sustained rate [300]")
    parser.add_argument(
        "--route",
        choices=("search", "answer"),
        default="search",
        help="search asks the models alone; answer also reads the best span, question by question [search]",
    )
    parser.add_argument("--size", choices=SIZES, default="mini", help="of both models [mini]")
    parser.add_argument("--questions", type=int, default=256, help="a turn [256]")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32, help="questions under way at a time, in the turns [32]")
    parser.add_argument("--candidates", type=int, default=10, help="passages re-ranked a question [10]")
    parser.add_argument("--batch", type=int, default=32, help="of the batching server [32]")
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds [5]")
    parser.add_argument("--most", type=int, default=512, help="requests under way at a time, under load [512]")
    parser.add_argument("--growth", type=float, default=64.0, help="MiB that memory may grow by under load [64]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        figures, faults = measure(options, Path(home))
    if options.json:
        print(json.dumps({**figures, "faults": faults}))
    else:
        print(f"one by one          {max(figures['one_by_one_per_second']):8.1f} answers a second")
        print(f"batched             {max(figures['batched_per_second']):8.1f} answers a second")
        print(f"ratio (median)      {figures['ratio']:8.2f}")
        print(f"offered             {figures['offered_per_second']:8.1f} a second for {options.seconds:g} s")
        print(f"statuses            {figures['statuses']}, {figures['unsent']} unsent")
        print(f"accepted            {figures['accepted_per_second']:8.1f} a second")
        seen = figures["accepted_p99_seconds_of_the_client"]
        p50, p99 = figures["accepted_p50_seconds"], figures["accepted_p99_seconds"]
        print(f"their times         p50 {p50:.2f} s, p99 {p99:.2f} s ({seen:.2f} s at the client)")
        print(f"deadline            {options.deadline:8.1f} s")
        print(f"memory              {figures['memory_start_mib']:.0f} → {figures['memory_end_mib']:.0f} MiB")
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
