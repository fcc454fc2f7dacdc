"""Constrained search over docids: `retgen.docids.search` against transformers' `generate` with a trie of dicts.

All run in this process, on the same random T5 weights, inputs, docids and beams, in turns, and are timed whole, from
the encoder's inputs to the hits. `beam` must find what `generate` does, hit for hit; `lookahead` must be rank by rank
at least as good; otherwise the benchmark fails. Times are medians over repeats; a ratio above 1 says that retgen is
quicker. One more run, apart from the timed ones, splits retgen's time into the model (decoder, output projection, its
softmax's normaliser), the constraint (the tree) and the rest.

Docids are leads of passages, and as many more as wanted, grown from their n-grams: of the almanac that retgen brings,
or of the collections below `--data`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

import retgen
from benchmarks.docid_generate import SHAPES, DictTrie, Hits, Inputs, peer, random_blocks, random_t5
from benchmarks.docid_texts import EOS, PAD, GrownDocids, passages
from benchmarks.search_clock import Clock, ClockedSession, ClockedTree
from retgen.docids.allowed import AllowedTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.evaluate import Column, Row, Table
from retgen.models.t5_session import T5Session

TOLERANCE = 1e-4
"""Most that two log-probabilities of one docid may differ by, per unit of their size where that is above 1."""

WAYS = {
    "beam": {"strategy": "beam", "rule": "model"},
    "lookahead": {"strategy": "lookahead", "rule": "model"},
    "beam, trie": {"strategy": "beam", "rule": "trie"},
    "lookahead, trie": {"strategy": "lookahead", "rule": "trie"},
    "exact": {"strategy": "exact", "rule": "model"},
}
"""``exact`` only when asked for: no proof is short where the model's weights are random."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Setting:
    model: str
    documents: int
    beams: int
    batch: int

    def __str__(self) -> str:
        return f"{self.model}, {self.documents} documents, {self.beams} beams, batch {self.batch}"


@dataclass(frozen=True)
class Way:
    """One of retgen's searches: medians over repeats, per query; ``ratio`` is generate's time through its own.

    ``model``, ``constraint`` and ``rest`` are shares of the time of a search without the encoder, summing up to 1;
    ``passes`` are the decoder's for a block of queries.
    """

    name: str
    ms: float
    ratio: float
    model: float
    constraint: float
    rest: float
    passes: float
    certified: float | None


@dataclass(frozen=True)
class Measured:
    setting: Setting
    peer_ms: float
    peer_steps: int
    tree_seconds: float
    tree_bytes_per_document: float
    unique_after: float
    peer_build_seconds: float
    hits_compared: int
    ways: list[Way]


def ours(model: PreTrainedModel, inputs: Inputs, view: AllowedTree, beams: int, way: str) -> tuple[list[Hits], float]:
    """Hits of each query, and the share of queries that are certified."""
    session = T5Session.encode(model, *inputs)
    hits = search(session, view, start_token_id=PAD, num_beams=beams, k=beams, **WAYS[way])  # type: ignore[arg-type]
    certified = [certificate.certified for certificate in hits.certificates or ()]
    return [
        [(tuple(view.tree.token_ids(int(leaf))), float(score)) for leaf, score in zip(leaves, scores, strict=True)]
        for leaves, scores in zip(hits.leaves, hits.scores, strict=True)
    ], sum(certified) / max(1, len(certified))


def split(model: PreTrainedModel, blocks: Sequence[Inputs], tree: PrefixTree, beams: int, way: str) -> Clock:
    """One run by the clock, after one that warms up the tree's view; ``whole`` is its time without the encoder."""
    clock = Clock()
    view = ClockedTree(tree, clock)
    for warm in (True, False):
        sessions = [ClockedSession(T5Session.encode(model, *inputs), clock) for inputs in blocks]
        if not warm:
            clock.seconds, clock.passes = dict.fromkeys(clock.seconds, 0.0), 0
        with clock.normalisers():
            start = time.perf_counter()
            for session in sessions:
                search(session, view, start_token_id=PAD, num_beams=beams, k=beams, **WAYS[way])  # type: ignore[arg-type]
            clock.seconds["whole"] = time.perf_counter() - start
    return clock


def close(score: float, wanted: float) -> bool:
    return abs(score - wanted) <= TOLERANCE * max(1.0, abs(wanted))


def check_same(setting: Setting, found: Sequence[Hits], expected: Sequence[Hits]) -> int:
    """Number of hits compared.

    Raises:
        SystemExit: another docid at some rank, or another score.
    """
    for query, (mine, other) in enumerate(zip(found, expected, strict=True)):
        same = [docid for docid, _ in mine] == [docid for docid, _ in other] and all(
            close(score, wanted) for (_, score), (_, wanted) in zip(mine, other, strict=True)
        )
        if not same:
            raise SystemExit(f"{setting}: query {query} has other hits\n  ours {mine}\n  peer {other}")
    return sum(map(len, expected))


def check_at_least(setting: Setting, found: Sequence[Hits], expected: Sequence[Hits]) -> None:
    """Rank by rank no lower a score.

    Raises:
        SystemExit: a hit is missing, or has a lower score.
    """
    for query, (mine, other) in enumerate(zip(found, expected, strict=True)):
        pairs = zip(mine, other, strict=False)
        if len(mine) < len(other) or not all(a >= b or close(a, b) for (_, a), (_, b) in pairs):
            raise SystemExit(f"{setting}: query {query} has worse hits\n  ours {mine}\n  peer {other}")


def measure(setting: Setting, options: argparse.Namespace, grown: GrownDocids) -> Measured:
    rng = np.random.default_rng(options.seed)
    model = random_t5(setting.model, options.seed)
    docids = grown.docids(setting.documents, *options.length)
    blocks = random_blocks(options.queries, setting.batch, options.input_tokens, model.config.vocab_size, rng)
    tree, tree_seconds = timed(lambda: PrefixTree.build(docids, eos_token_id=EOS))
    trie, trie_seconds = timed(lambda: DictTrie(docids))
    view = AllowedTree(tree)

    def search_all(way: str) -> list[tuple[list[Hits], float]]:
        return [ours(model, block, view, setting.beams, way) for block in blocks]

    def generate_all() -> list[Hits]:
        return [hits for block in blocks for hits in peer(model, block, trie, setting.beams)]

    expected, compared, certified = generate_all(), 0, {}
    for way in options.ways:  # all are warm after it
        found = search_all(way)
        hits = [row for block, _ in found for row in block]
        if way == "beam":
            compared = check_same(setting, hits, expected)
        elif way in ("lookahead", "exact"):
            check_at_least(setting, hits, expected)
        if way == "exact":
            certified[way] = statistics.fmean(share for _, share in found)
    taken: dict[str, list[float]] = {way: [] for way in (*options.ways, "peer")}
    for _ in range(options.repeats):
        for way in options.ways:
            taken[way].append(timed(lambda way=way: search_all(way))[1])  # type: ignore[misc]
        taken["peer"].append(timed(generate_all)[1])
    seconds = {way: statistics.median(times) for way, times in taken.items()}
    ways = []
    for way in options.ways:
        clock = split(model, blocks, tree, setting.beams, way)
        whole = clock.seconds["whole"]
        shares = {part: clock.seconds[part] / whole for part in ("model", "constraint")}
        ways.append(
            Way(
                way,
                ms=1000 * seconds[way] / options.queries,
                ratio=seconds["peer"] / seconds[way],
                **shares,
                rest=1 - sum(shares.values()),
                passes=clock.passes / len(blocks),
                certified=certified.get(way),
            )
        )
    return Measured(
        setting,
        peer_ms=1000 * seconds["peer"] / options.queries,
        peer_steps=trie.longest,
        tree_seconds=tree_seconds,
        tree_bytes_per_document=tree.bytes_per_document,
        unique_after=unique_after(tree),
        peer_build_seconds=trie_seconds,
        hits_compared=compared,
        ways=ways,
    )


def unique_after(tree: PrefixTree) -> float:
    """Tokens that tell a docid from all others, in the mean: what a search cannot do with fewer steps than."""
    return float((tree.arrays.leaf_length - np.diff(tree.arrays.tail_offsets).astype(np.int64)).mean())


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


def table(results: Sequence[Measured]) -> Table:
    columns = [
        Column("ms", "ms/query", decimals=1, best=None),
        Column("ratio", "generate / it", decimals=2, best=None),
        Column("passes", "Decoder passes", decimals=1, best=None),
        Column("model", "Model %", decimals=1, best=None),
        Column("constraint", "Constraint %", decimals=1, best=None),
        Column("rest", "Rest %", decimals=1, best=None),
        Column("certified", "Certified %", decimals=0, best=None),
    ]
    compared = sum(result.hits_compared for result in results)
    made = Table(columns, corner="Search", caption=f"Docid search: the same {compared} hits from beam and generate")
    for result in results:
        made.add_section(
            f"{result.setting} ({result.tree_bytes_per_document:.1f} bytes a document, "
            f"unique after {result.unique_after:.1f} tokens)"
        )
        made.add_row(Row("generate + dict trie", {"ms": result.peer_ms, "ratio": 1.0, "passes": result.peer_steps}))
        for way in result.ways:
            shares = {part: 100 * getattr(way, part) for part in ("model", "constraint", "rest")}
            proven = None if way.certified is None else 100 * way.certified
            made.add_row(
                Row(way.name, {"ms": way.ms, "ratio": way.ratio, "passes": way.passes, **shares, "certified": proven})
            )
    return made


def picture(results: Sequence[Measured], path: Path) -> None:
    """Milliseconds a query of every search, in a group for each setting."""
    from matplotlib.figure import Figure

    from retgen.evaluate.plots import save_figure

    names = ["generate + dict trie", *(way.name for way in results[0].ways)]
    figure = Figure(figsize=(2 + 2 * len(results), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        times = [result.peer_ms if number == 0 else result.ways[number - 1].ms for result in results]
        places = [group + (number - (len(names) - 1) / 2) * width for group in range(len(results))]
        axes.bar(places, times, width, label=name)
    axes.set_xticks(range(len(results)), [str(result.setting).replace(", ", "\n", 1) for result in results])
    axes.set_yscale("log")
    axes.set_ylabel("ms a query")
    axes.legend(fontsize="small")
    save_figure(figure, path)


def at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} on, not {text!r}")
        return int(text)

    return number


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=list(SHAPES), default=["small"], help="shapes of T5")
    parser.add_argument("--documents", nargs="+", type=at_least(1), default=[100_000])
    # One beam is greedy decoding, for which generate gives no scores.
    parser.add_argument("--beams", nargs="+", type=at_least(2), default=[10])
    parser.add_argument("--batch", nargs="+", type=at_least(1), default=[1, 16], help="queries searched together")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS)[:-1], help="of retgen's")
    parser.add_argument("--length", nargs=2, type=at_least(2), default=[21, 25], help="tokens of a docid, from and to")
    parser.add_argument("--queries", type=at_least(1), default=16)
    parser.add_argument("--input-tokens", type=at_least(1), default=64, help="of the longest query")
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--data", type=Path, help="folder with BEIR collections [the almanac]")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    parser.add_argument("--picture", type=Path, help="also draw the times here (.svg, .png, .pdf)")
    options = parser.parse_args(arguments)

    transformers.logging.set_verbosity_error()
    texts = passages(options.data)
    results = []
    for chosen in itertools.product(options.model, options.documents, options.beams, options.batch):
        setting = Setting(*chosen)
        print(f"measuring {setting}", file=sys.stderr)
        vocab = SHAPES[setting.model]["vocab_size"]
        results.append(measure(setting, options, GrownDocids(texts, vocab, np.random.default_rng(options.seed))))
    if options.picture is not None:
        picture(results, options.picture)
    if options.json:
        shared = {name: getattr(options, name) for name in ("queries", "input_tokens", "length", "repeats", "seed")}
        rows = [asdict(result) for result in results]
        print(json.dumps({"benchmark": "docid_search", "machine": machine(), **shared, "results": rows}))
        return
    print(table(results).to_markdown())
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
