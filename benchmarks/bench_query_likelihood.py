"""Query likelihood: each passage read once (`retgen.rerank.query_likelihood`) against a forward pass for every pair.

Both run in this process, in turns, on the same fp32 weights and the same real candidates: BM25's top passages for the
test questions of SciFact. The peer is the plain way: encoder and decoder over every (passage, query) pair, in batches
of pairs sorted by length. Ours is timed twice: cold, and with a cache on disk that holds every passage's states, whose
opening and checking is timed too. Everything is timed from texts to scores. All scores are compared pair by pair; if
two differ by more than 1e-4 the benchmark fails. Times are medians over repeats; a ratio above 1 says that retgen is
quicker.

What is gained depends on how many queries share a passage: on SciFact 300 queries with 100 candidates each fall on some
5,000 passages, six to each. Fewer queries would share less, so the default measures a sample of the passages and not of
the queries: passages are drawn at random from the whole run, and every pair of the run that has one of them is
scored. So pairs per passage, lengths of passages and lengths of queries are the whole run's in expectation (both
numbers are printed); only the amount of work is smaller. ``--passages 0`` measures the whole run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import transformers
from transformers.modeling_outputs import BaseModelOutput

import retgen
from retgen.devices import length_sorted_batches
from retgen.evaluate import Column, Row, Table
from retgen.formats import beir
from retgen.lexical import BM25
from retgen.models.generator_sources import load_generator
from retgen.models.pair_batches import padded
from retgen.models.query_generator import QueryGenerator
from retgen.rerank.candidates import Candidates, collect
from retgen.rerank.query_likelihood import QueryLikelihood
from retgen.types import Document, FloatArray

SCIFACT = Path(__file__).resolve().parents[2] / "shared" / "data" / "scifact"
TOLERANCE = 1e-4
"""Most that two mean log-likelihoods of one pair may differ by, in nats."""
BATCH_TOKENS = 8_192
"""Most passage tokens of a batch, of both."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Work:
    """The pairs that are measured, and those of the whole run they were drawn from."""

    candidates: Candidates
    run_pairs: int
    run_passages: int

    @property
    def sharing(self) -> float:
        return len(self.candidates.pairs) / len(self.candidates.passages)

    @property
    def run_sharing(self) -> float:
        return self.run_pairs / self.run_passages


@dataclass(frozen=True)
class Measured:
    """Medians over repeats, in seconds; ratios are ``pair_by_pair / cold`` and ``pair_by_pair / warm``.

    ``largest_difference`` is that of any two scores of one pair, ``fill`` the one cold run that wrote the cache.
    """

    source: str
    queries: int
    pairs: int
    passages: int
    pairs_per_passage: float
    pairs_per_passage_of_the_run: float
    passage_tokens: float
    query_tokens: float
    pair_by_pair: float
    cold: float
    warm: float
    fill: float
    cache_megabytes: float
    cold_ratio: float
    warm_ratio: float
    largest_difference: float


def real_work(data: Path, queries: int, depth: int, passages: int, seed: int) -> Work:
    """Candidates of the test questions of a BEIR folder, or those of them that fall on some of the passages."""
    documents = {document.id: document for document in beir.read_documents(data)}
    judged = beir.read_qrels(data, "test")
    asked = [query for query in beir.read_queries(data) if query.id in judged][: queries or None]
    run = BM25.build(documents.values()).search(asked, depth)
    whole = collect(asked, run, documents)
    found = Work(whole, len(whole.pairs), len(whole.passages))
    if not 0 < passages < len(whole.passages):
        return found
    chosen = sorted(random.Random(seed).sample(range(len(whole.passages)), passages))
    place = {number: at for at, number in enumerate(chosen)}
    part = Candidates(
        whole.queries,
        tuple(whole.passages[number] for number in chosen),
        tuple(tuple(place[number] for number in row if number in place) for row in whole.rows),
    )
    return Work(part, found.run_pairs, found.run_passages)


@torch.inference_mode()
def pair_by_pair(generator: QueryGenerator, candidates: Candidates) -> FloatArray:
    """The plain forward pass over every pair: mean log-probability of the labels' tokens."""
    model: Any = generator.model
    inputs = generator.passage_ids(candidates.passages)
    targets = generator.query_ids([query.text for query in candidates.queries])
    pairs = candidates.pairs
    scores = np.zeros(len(pairs))
    # Among passages of one length, as a passage's own pairs are, short queries stand beside short ones.
    order = sorted(range(len(pairs)), key=lambda number: len(targets[pairs[number][0]]))
    for places in length_sorted_batches([len(inputs[pairs[number][1]]) for number in order], BATCH_TOKENS):
        batch = [order[place] for place in places]
        ids, mask = padded([inputs[pairs[number][1]] for number in batch], generator.pad_token_id, model.device)
        rows = [targets[pairs[number][0]] for number in batch]
        labels, real = padded(rows, generator.pad_token_id, model.device)
        labels = labels.masked_fill(real == 0, -100)
        if getattr(model, "reads_source_ids", False):
            # Our own model's quickest way: without the probabilities of a whole vocabulary for every token.
            states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
            found = model.target_log_probabilities(
                BaseModelOutput(last_hidden_state=states), attention_mask=mask, labels=labels, source_ids=ids
            )
        else:
            logits = model(input_ids=ids, attention_mask=mask, labels=labels).logits
            chosen = logits.gather(2, labels.clamp(min=0).unsqueeze(2)).squeeze(2)
            found = (chosen - logits.logsumexp(dim=2)) * real
        scores[batch] = (found.sum(dim=1) / real.sum(dim=1)).double().numpy()
    return scores


def largest_difference(found: dict[str, FloatArray]) -> float:
    """The largest difference of two scores of one pair.

    Raises:
        SystemExit: it is above the tolerance, or not a number.
    """
    table = np.stack(list(found.values()))
    largest = float(np.ptp(table, axis=0).max(initial=0.0))
    if not largest <= TOLERANCE:
        raise SystemExit(f"scores differ by up to {largest:.2g} nats between {', '.join(found)}")
    return largest


def measure(generator: QueryGenerator, work: Work, *, source: str, repeats: int) -> Measured:
    candidates = work.candidates
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "states"

        def ours_cold() -> FloatArray:
            return QueryLikelihood(generator).score_pairs(candidates)

        def ours_warm() -> FloatArray:
            return QueryLikelihood(generator, state_cache=cache).score_pairs(candidates)

        ways: dict[str, Callable[[], FloatArray]] = {
            "pair by pair": lambda: pair_by_pair(generator, candidates),
            "cold": ours_cold,
            "warm": ours_warm,
        }
        warm_up(generator, candidates)
        _, fill = timed(ours_warm)
        megabytes = sum(file.stat().st_size for file in cache.iterdir()) / 2**20
        scores: dict[str, FloatArray] = {}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(repeats):
            for name, way in ways.items():
                print(f"repeat {repeat + 1} of {repeats}: {name}", file=sys.stderr)
                scores[f"{name} {repeat}"], taken = timed(way)
                seconds[name].append(taken)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    lengths = generator.query_ids([query.text for query in candidates.queries])
    return Measured(
        source=source,
        queries=len(candidates.queries),
        pairs=len(candidates.pairs),
        passages=len(candidates.passages),
        pairs_per_passage=work.sharing,
        pairs_per_passage_of_the_run=work.run_sharing,
        passage_tokens=statistics.mean(map(len, generator.passage_ids(candidates.passages))),
        query_tokens=statistics.mean(len(lengths[query]) for query, _ in candidates.pairs),
        pair_by_pair=middle["pair by pair"],
        cold=middle["cold"],
        warm=middle["warm"],
        fill=fill,
        cache_megabytes=megabytes,
        cold_ratio=middle["pair by pair"] / middle["cold"],
        warm_ratio=middle["pair by pair"] / middle["warm"],
        largest_difference=largest_difference(scores),
    )


def warm_up(generator: QueryGenerator, candidates: Candidates) -> None:
    """A few pairs in both ways: what only the first pass of a process takes is not measured."""
    few = Candidates(candidates.queries[:1], candidates.passages[:4], (tuple(range(min(4, len(candidates.passages)))),))
    pair_by_pair(generator, few)
    QueryLikelihood(generator).score_pairs(few)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def machine() -> dict[str, object]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "retgen": retgen.__version__,
    }


def table(found: Measured) -> Table:
    columns = [
        Column("seconds", "seconds", decimals=1, best=None),
        Column("pairs", "pairs/s", decimals=1, best=None),
        Column("ratio", "pair by pair / this", decimals=2, best=None),
    ]
    made = Table(
        columns,
        corner=f"{found.source}, fp32",
        caption=(
            f"{found.pairs} pairs of {found.queries} queries and {found.passages} passages: "
            f"{found.pairs_per_passage:.1f} pairs a passage "
            f"({found.pairs_per_passage_of_the_run:.1f} in the whole run), "
            f"{found.passage_tokens:.0f} tokens a passage, {found.query_tokens:.0f} a query; "
            f"scores agree within {found.largest_difference:.1g}"
        ),
    )
    for name, seconds in (
        ("a forward pass for every pair", found.pair_by_pair),
        ("each passage once", found.cold),
        ("from a warm cache", found.warm),
    ):
        values = {"seconds": seconds, "pairs": found.pairs / seconds, "ratio": found.pair_by_pair / seconds}
        made.add_row(Row(name, values))
    return made


def at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} on, not {text!r}")
        return int(text)

    return number


def texts(documents: Sequence[Document]) -> list[str]:
    return [document.contents for document in documents]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SCIFACT, help="a BEIR folder with test questions")
    parser.add_argument("--source", default="warm:minilm", help="of the generator: as retgen train query-generator's")
    parser.add_argument("--queries", type=at_least(0), default=0, help="the first so many; 0: all")
    parser.add_argument("--depth", type=at_least(1), default=100, help="candidates of a query")
    parser.add_argument("--passages", type=at_least(0), default=150, help="a sample of so many; 0: all")
    parser.add_argument("--repeats", type=at_least(1), default=2)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        raise SystemExit(f"there is no folder {options.data}; give a BEIR folder with --data")

    transformers.logging.set_verbosity_error()
    torch.manual_seed(options.seed)
    work = real_work(options.data, options.queries, options.depth, options.passages, options.seed)
    untrained = options.source.startswith(("warm:", "scratch:"))
    model, tokenizer = load_generator(options.source, texts=texts(work.candidates.passages) if untrained else None)
    generator = QueryGenerator(model.float().eval(), tokenizer, "jpr", batch_tokens=BATCH_TOKENS)
    print(f"measuring {len(work.candidates.pairs)} pairs", file=sys.stderr)
    found = measure(generator, work, source=options.source, repeats=options.repeats)
    if options.json:
        shared = {name: getattr(options, name) for name in ("depth", "repeats", "seed")}
        body = {"benchmark": "query_likelihood", "machine": machine(), **shared, "results": [asdict(found)]}
        print(json.dumps(body))
        return
    print(table(found).to_markdown())
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
