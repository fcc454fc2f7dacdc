"""How a whole search step (model, constraint, bookkeeping) grows with the number of docids, at fixed beams.

Docids are those of `bench_docid_tree`, the model a T5 with random weights. A way's step is its time without the encoder
over the decoder's passes; the median over repeats of all queries. No peer: a trie of dicts takes 10 kB a docid.

    python -m benchmarks.docid_growth --documents 100000 1000000 10000000
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.bench_docid_search import WAYS, at_least, machine
from benchmarks.bench_docid_tree import synthetic_docids
from benchmarks.docid_generate import SHAPES, random_blocks, random_t5
from benchmarks.docid_texts import EOS, PAD
from benchmarks.search_clock import Clock, ClockedSession
from retgen.docids.allowed import AllowedTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.evaluate import Column, Row, Table
from retgen.models.t5_session import T5Session


def measure(documents: int, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of a step and passes, by way."""
    rng = np.random.default_rng(options.seed)
    model = random_t5(options.model, options.seed)
    tokens, offsets = synthetic_docids(documents, options.length, SHAPES[options.model]["vocab_size"], rng)
    view = AllowedTree(PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS))
    blocks = random_blocks(options.queries, options.batch, 64, SHAPES[options.model]["vocab_size"], rng)
    found: dict[str, float] = {}
    for way in options.ways:
        per_step, clock = [], Clock()
        for repeat in range(options.repeats + 1):  # the first warms up
            sessions = [ClockedSession(T5Session.encode(model, *inputs), clock) for inputs in blocks]
            clock.passes, start = 0, time.perf_counter()
            for session in sessions:
                search(session, view, start_token_id=PAD, num_beams=options.beams, k=options.beams, **WAYS[way])  # type: ignore[arg-type]
            if repeat:
                per_step.append(1000 * (time.perf_counter() - start) / clock.passes)
        found[f"{way} step"], found[f"{way} passes"] = statistics.median(per_step), clock.passes / len(blocks)
    return found


def table(sizes: Sequence[int], results: Sequence[dict[str, float]], ways: Sequence[str]) -> Table:
    columns = []
    for way in ways:
        columns += [
            Column(f"{way} step", f"{way}: step (ms)", decimals=1, best=None),
            Column(f"{way} growth", f"{way}: growth", decimals=2, best=None),
            Column(f"{way} passes", f"{way}: passes", decimals=1, best=None),
        ]
    made = Table(columns, corner="Documents", caption="A search's step as the collection grows")
    for size, result in zip(sizes, results, strict=True):
        growth = {f"{way} growth": result[f"{way} step"] / results[0][f"{way} step"] for way in ways}
        made.add_row(Row(f"{size:,}", {**result, **growth}))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="small", help="shape of T5")
    parser.add_argument("--documents", nargs="+", type=at_least(1), default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["beam", "lookahead"])
    parser.add_argument("--length", type=at_least(2), default=21, help="tokens of a docid, EOS included")
    parser.add_argument("--beams", type=at_least(2), default=10)
    parser.add_argument("--batch", type=at_least(1), default=1, help="queries searched together")
    parser.add_argument("--queries", type=at_least(1), default=4)
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    options = parser.parse_args(arguments)
    results = []
    for documents in options.documents:
        print(f"measuring {documents:,} documents", file=sys.stderr)
        results.append(measure(documents, options))
    if options.json:
        rows = [{"documents": size, **result} for size, result in zip(options.documents, results, strict=True)]
        print(json.dumps({"benchmark": "docid_growth", "machine": machine(), "results": rows}))
        return
    print(table(options.documents, results, options.ways).to_markdown())
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
