"""Many prompts through an endpoint (`retgen.llm`) against a plain concurrent loop over the official client.

A tiny saved model is served by a process of its own; a proxy in front of it holds every answer for ``--delay`` seconds,
as a real endpoint would, and remembers answers, so that the model is not what is measured. In turns, over the same
prompts: the plain loop (a semaphore and the client, no retries, no ledger); ours with a fresh ledger; ours through a
second proxy that spoils ``--faults`` of the answers: 429 with Retry-After, 500, dropped and reset connections, torn
JSON, empty texts, answers that trickle in. All texts are compared; the benchmark fails where one differs, is lost, or
was delivered whole twice. A ratio is the plain loop's time over ours; processor seconds are this process' own.

Then ``retgen connect`` is killed (-9) at ``--kills`` random moments and started again each time; its file must be the
one of an uninterrupted run, byte by byte.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import retgen
from retgen.llm import CompletionRequest, Endpoint, EndpointClient, Ledger, RetryPolicy
from tests.llm.serving import MODEL, delivered, faults, save_chat_model, served, spoiled

PARAMETERS = {"temperature": 0, "max_tokens": 8}
RETRY_AFTER = 0.2
SLOW = 0.8


def prompts(number: int) -> list[CompletionRequest]:
    return [CompletionRequest(MODEL, f"Write a context to question {n}.", PARAMETERS) for n in range(number)]


async def plain_loop(url: str, requests: Sequence[CompletionRequest], concurrency: int) -> list[str]:
    places = asyncio.Semaphore(concurrency)
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:

        async def one(request: CompletionRequest) -> str:
            async with places:
                answer = await client.chat.completions.create(
                    model=request.model,
                    messages=[{"role": "user", "content": request.prompt}],
                    temperature=0,
                    max_tokens=8,
                )
            return answer.choices[0].message.content or ""

        return list(await asyncio.gather(*map(one, requests)))


def ours(url: str, requests: Sequence[CompletionRequest], concurrency: int, ledger: Path) -> list[str]:
    with Ledger(ledger) as opened:
        policy = RetryPolicy(first_wait=0.1)
        client = EndpointClient(Endpoint(url), opened, concurrency=concurrency, policy=policy)
        outcomes = client.complete(requests)
    lost = [outcome.error for outcome in outcomes if outcome.text is None]
    if lost:
        raise SystemExit(f"{len(lost)} prompts were lost, the first: {lost[0]}")
    return [outcome.text or "" for outcome in outcomes]


def throughput(url: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    requests = prompts(options.prompts)
    size = -(-len(requests) // options.slices)
    parts = [requests[first : first + size] for first in range(0, len(requests), size)]
    rows: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": [], "faults": []}
    spoilt = 0
    with spoiled(url, folder / "held.log", "--delay", str(options.delay), "--remember") as held:
        expected = asyncio.run(plain_loop(held, requests, options.concurrency))  # the proxy learns the answers
        for turn in range(options.repeats):
            log = folder / f"faults-{turn}.log"
            settings = ("--faults", str(options.faults), "--seed", str(turn), "--slow", str(SLOW))
            with spoiled(held, log, *settings, "--retry-after", str(RETRY_AFTER)) as spoiling:
                ways: dict[str, Callable[[Sequence[CompletionRequest]], list[str]]] = {
                    "plain": lambda part: asyncio.run(plain_loop(held, part, options.concurrency)),
                    "ours": lambda part, n=turn: ours(held, part, options.concurrency, folder / f"ours-{n}.sqlite"),
                    "faults": lambda part, at=spoiling, n=turn: ours(
                        at, part, options.concurrency, folder / f"faults-{n}.sqlite"
                    ),
                }
                texts: dict[str, list[str]] = {name: [] for name in ways}
                took = dict.fromkeys(ways, (0.0, 0.0))
                for part, (name, way) in itertools.product(parts, ways.items()):
                    start, cpu = time.perf_counter(), time.process_time()
                    texts[name] += way(part)
                    wall, used = time.perf_counter() - start, time.process_time() - cpu
                    took[name] = (took[name][0] + wall, took[name][1] + used)
            for name, found in texts.items():
                rows[name].append(took[name])
                if found != expected:
                    raise SystemExit(f"the texts of {name!r} are not those of the plain loop")
            counts = delivered(log)
            if len(counts) != len(requests) or set(counts.values()) != {1}:
                raise SystemExit(f"{sum(counts.values())} whole answers for {len(requests)} prompts")
            spoilt += sum(faults(log).values())
    medians = {name: statistics.median(wall for wall, _ in found) for name, found in rows.items()}
    return {
        "seconds": {name: round(value, 2) for name, value in medians.items()},
        "cpu_seconds": {name: round(statistics.median(cpu for _, cpu in found), 2) for name, found in rows.items()},
        "prompts_per_second": {name: round(len(requests) / value, 1) for name, value in medians.items()},
        "ratio": round(medians["plain"] / medians["ours"], 3),
        "ratio_with_faults": round(medians["plain"] / medians["faults"], 3),
        "faults_made": spoilt,
    }


def kills(url: str, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    corpus = folder / "corpus.jsonl"
    number = max(60, 3 * options.kills)
    rows = ({"id": f"d{n}", "text": f"Metal {n} melts at {n} °C."} for n in range(number))
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(at: str, name: str) -> list[str]:
        return [
            sys.executable, "-m", "retgen", "connect", str(corpus), "--job", "summarise", "--writer", "chat",
            "--endpoint", at, "--model", MODEL, "--max-tokens", "8", "--concurrency", "2",
            "--ledger", str(folder / f"{name}.sqlite"), "--out", str(folder / f"{name}.jsonl"),
        ]  # fmt: skip

    log = folder / "kills.log"
    chance = random.Random(0)
    killed = 0
    with spoiled(url, log, "--delay", "0.1") as held:
        while killed < options.kills:
            process = subprocess.Popen(command(held, "killed"), stdout=subprocess.DEVNULL)
            # Any moment: while it starts, or some answers later.
            wanted = len(delivered(log)) + chance.randint(0, 3)
            time.sleep(chance.random())
            while process.poll() is None and len(delivered(log)) < wanted:
                time.sleep(0.005)
            if process.poll() is not None:
                raise SystemExit(f"it ended after {killed} kills: give more documents")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        subprocess.run(command(held, "killed"), stdout=subprocess.DEVNULL, check=True)
        asked_again = sum(delivered(log).values()) - number
    subprocess.run(command(url, "whole"), stdout=subprocess.DEVNULL, check=True)
    if (folder / "killed.jsonl").read_bytes() != (folder / "whole.jsonl").read_bytes():
        raise SystemExit("the file of the killed run is not that of the whole one")
    return {"kills": killed, "documents": number, "answers_lost_at_kills": asked_again, "identical": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--delay", type=float, default=0.25, help="seconds an answer is held")
    parser.add_argument("--faults", type=float, default=0.2, help="share of answers that are spoilt")
    parser.add_argument(
        "--slices", type=int, default=1, help="take turns so many times in one run, where the machine is not idle"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--skip-throughput", action="store_true", help="only kill")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_chat_model(folder / "model")
        with served(folder / "model") as url:
            made: dict[str, object] = {}
            if not options.skip_throughput:
                print("throughput …", file=sys.stderr)
                made = throughput(url, folder, options)
            print("kills …", file=sys.stderr)
            stopped = kills(url, folder, options) if options.kills else {}
    settings = {
        name: getattr(options, name) for name in ("prompts", "concurrency", "delay", "faults", "slices", "repeats")
    }
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    if options.json:
        print(json.dumps({**settings, **made, **stopped, "retgen": retgen.__version__, **machine}))
        return
    if options.skip_throughput:
        print(stopped)
        return
    seconds, rate = made["seconds"], made["prompts_per_second"]
    assert isinstance(seconds, dict)
    assert isinstance(rate, dict)
    ratios = {"plain": 1.0, "ours": made["ratio"], "faults": made["ratio_with_faults"]}
    names = {"plain": "plain loop", "ours": "retgen", "faults": f"retgen, {options.faults:.0%} of answers spoilt"}
    print(f"{options.prompts} prompts, {options.concurrency} at a time, each held {options.delay} s; {machine}")
    for name, label in names.items():
        print(f"{label:<36} {seconds[name]:>8} s {rate[name]:>8} prompts/s  ratio {ratios[name]}")
    print(f"faults made: {made['faults_made']}; {stopped}")


if __name__ == "__main__":
    main()
