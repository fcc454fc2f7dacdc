"""The prefix tree over docids: bytes a document, build time, peak memory, and child look-ups as the collection grows.

Docids are synthetic: the k-th most frequent token is about k times as rare as the first, as with words; EOS ends them.
Each size is measured in a process of its own, whose peak memory it is, from the docids' making to the built tree's end;
then the tree is saved, mapped back from the disk, and walked by beams that follow the branches most docids lie below.
The same walks are made over the tree with documents added to it and removed from it without a rebuild.

The peer is the dict of prefixes that `generate` is usually given (`prefix_allowed_tokens_fn`), for collections of up to
`--peer-documents`: what follows each prefix is compared, and the benchmark fails where it differs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

import retgen
from retgen.docids.docid_tree import DocidTree
from retgen.docids.layered_tree import LayeredTree
from retgen.docids.prefix_tree import PrefixTree
from retgen.evaluate import Column, Row, Table

EOS = 1
_BLOCK = 2**20
Prefix = tuple[int, ...]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Walk:
    """Look-ups of beams that walk from the root to the end: medians over repeats."""

    beams: int
    step_us: float
    """Microseconds that one step's children take, for all beams of all queries."""
    steps: int
    children: float
    """Looked up in a step."""


@dataclass(frozen=True)
class Measured:
    """One size of collection. Peak memory is that of the whole process, with the docids that the tree is built from."""

    documents: int
    bytes_per_document: float
    token_bits: int
    nodes: int
    build_seconds: float
    peak_mib: float
    input_mib: float
    save_seconds: float
    load_seconds: float
    change_seconds: float
    walks: list[Walk]
    changed_walks: list[Walk]
    peer_bytes_per_document: float | None
    peer_build_seconds: float | None
    peer_walks: list[Walk]


def synthetic_docids(
    count: int, length: int, vocab: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]:
    """Docids of so many tokens, EOS included, laid end to end, and where each begins."""
    tokens = np.empty((count, length), dtype=np.uint16 if vocab <= 2**16 else np.int32)
    for first in range(0, count, _BLOCK):
        block = tokens[first : first + _BLOCK]
        ranks = np.exp(rng.random((len(block), length - 1), dtype=np.float32) * np.log(vocab - 2))
        block[:, :-1] = np.minimum(ranks, vocab - 2).astype(np.int32) + 1
        block[:, -1] = EOS
    return tokens.reshape(-1), np.arange(count + 1, dtype=np.int64) * length


def steps(
    tree: DocidTree, queries: int, beams: int, rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.integer], npt.NDArray[np.int64], float]]:
    """A walk: at each step the rows' parents, the children's tokens and counts, and the seconds they took."""
    states, owners = np.full(queries, tree.root, dtype=np.int64), np.arange(queries)
    parents = np.arange(queries)
    while len(states):
        (tokens, targets, counts), seconds = timed(lambda found=states: tree.expand(found))
        yield parents, tokens, counts, seconds
        goes_on = np.flatnonzero(targets >= 0)
        query = np.repeat(owners, counts)[goes_on]
        starts, stops = tree.leaf_ranges(targets[goes_on])
        order = np.lexsort((-np.log(stops - starts) - rng.gumbel(size=len(goes_on)), query))
        rank = np.arange(len(order)) - np.searchsorted(query[order], query[order])
        parents = goes_on[order[rank < beams]]
        states, owners = targets[parents], query[order[rank < beams]]


def walk(tree: DocidTree, queries: int, beams: int, repeats: int, seed: int) -> Walk:
    per_step, lengths, children = [], [], []
    for repeat in range(repeats + 1):  # the first warms up
        made = list(steps(tree, queries, beams, np.random.default_rng([seed, repeat])))
        per_step.append(1e6 * sum(seconds for *_, seconds in made) / len(made))
        lengths.append(len(made))
        children.append(sum(len(tokens) for _, tokens, *_ in made) / len(made))
    return Walk(beams, statistics.median(per_step[1:]), max(lengths), statistics.median(children[1:]))


def peer_walk(
    tree: DocidTree, trie: dict[Prefix, list[int]], queries: int, beams: int, repeats: int, seed: int
) -> Walk:
    """The walks of `walk` with the dict, whose answers must be the tree's.

    Raises:
        SystemExit: they are not.
    """
    per_step, lengths, children = [], [], []
    for repeat in range(repeats + 1):
        taken, following = [], [()] * queries
        for parents, tokens, counts, _ in steps(tree, queries, beams, np.random.default_rng([seed, repeat])):
            prefixes: list[Prefix] = [following[parent] for parent in parents.tolist()]
            found, seconds = timed(lambda prefixes=prefixes: [trie[prefix] for prefix in prefixes])
            taken.append(seconds)
            flat = tokens.tolist()
            for prefix, expected, (start, stop) in zip(
                prefixes, found, pairwise([0, *accumulate(counts)]), strict=True
            ):
                if flat[start:stop] != expected:
                    raise SystemExit(f"after {prefix} the tree has {flat[start:stop]}, the dict {expected}")
            following = [(*prefix, token) for prefix, row in zip(prefixes, found, strict=True) for token in row]
            children.append(len(flat))
        per_step.append(1e6 * sum(taken) / len(taken))
        lengths.append(len(taken))
    return Walk(beams, statistics.median(per_step[1:]), max(lengths), statistics.fmean(children))


def dict_trie(tokens: npt.NDArray[np.integer], length: int) -> dict[Prefix, list[int]]:
    following: dict[Prefix, set[int]] = {}
    for docid in tokens.reshape(-1, length).tolist():
        for place, token in enumerate(docid):
            following.setdefault(tuple(docid[:place]), set()).add(token)
    return {prefix: sorted(found) for prefix, found in following.items()}


def changed(
    tree: PrefixTree, count: int, length: int, vocab: int, rng: np.random.Generator
) -> tuple[LayeredTree, float]:
    """The tree with so many documents removed (at most half) and as many added, and the seconds it took."""
    gone = rng.choice(tree.num_documents, size=min(count, tree.num_documents // 2), replace=False)
    tokens, offsets = synthetic_docids(count, length, vocab, rng)
    tree.leaves_of(gone[:1])  # sorts the documents by number, once

    def change() -> LayeredTree:
        numbers = np.arange(tree.num_documents, tree.num_documents + count)
        added = PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS, numbers=numbers)
        return LayeredTree(tree, removed=gone, added=added)

    return timed(change)


def measure(documents: int, options: argparse.Namespace) -> Measured:
    """One size, in this process."""
    rng = np.random.default_rng(options.seed)
    tokens, offsets = synthetic_docids(documents, options.length, options.vocab, rng)
    built, build_seconds = timed(lambda: PrefixTree.from_flat(tokens, offsets, eos_token_id=EOS))
    peak, statistics_ = memory_mib("peak"), built.statistics()
    input_mib = (tokens.nbytes + offsets.nbytes) / 2**20
    work = (options.batch, options.repeats, options.seed)
    with tempfile.TemporaryDirectory(dir=options.folder) as home:
        _, save_seconds = timed(partial(built.save, Path(home) / "tree"))
        tree, load_seconds = timed(lambda: PrefixTree.load(Path(home) / "tree"))
        del built
        walks = [walk(tree, work[0], beams, *work[1:]) for beams in options.beams]
        layered, change_seconds = changed(tree, options.changes, options.length, options.vocab, rng)
        changed_walks = [walk(layered, work[0], beams, *work[1:]) for beams in options.beams]
        peer_bytes = peer_seconds = None
        peer_walks: list[Walk] = []
        if documents <= options.peer_documents:
            gc.collect()
            before = memory_mib("now")
            trie, peer_seconds = timed(lambda: dict_trie(tokens, options.length))
            peer_bytes = (memory_mib("now") - before) * 2**20 / documents
            peer_walks = [peer_walk(tree, trie, work[0], beams, *work[1:]) for beams in options.beams]
    return Measured(
        documents=documents,
        bytes_per_document=statistics_.bytes_per_document,
        token_bits=statistics_.token_bits,
        nodes=statistics_.nodes,
        build_seconds=build_seconds,
        peak_mib=peak,
        input_mib=input_mib,
        save_seconds=save_seconds,
        load_seconds=load_seconds,
        change_seconds=change_seconds,
        walks=walks,
        changed_walks=changed_walks,
        peer_bytes_per_document=peer_bytes,
        peer_build_seconds=peer_seconds,
        peer_walks=peer_walks,
    )


def measure_apart(documents: int, arguments: Sequence[str]) -> Measured:
    """One size, in a process of its own.

    Raises:
        SystemExit: that process failed.
    """
    command = [sys.executable, __file__, *arguments, "--only", str(documents)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring {documents} documents failed")
    found = json.loads(done.stdout)
    for name in ("walks", "changed_walks", "peer_walks"):
        found[name] = [Walk(**one) for one in found[name]]
    return Measured(**found)


def memory_mib(which: str) -> float:
    """What this process has in memory, at its ``"peak"`` or ``"now"``."""
    if which == "now" and sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def table(results: Sequence[Measured]) -> Table:
    first = results[0]
    columns = [
        Column("bytes_per_document", "bytes/document", decimals=1, best=None),
        Column("peer_bytes_per_document", "dict (bytes/document)", decimals=0, best=None),
        Column("build_seconds", "built (s)", decimals=2, best=None),
        Column("peer_build_seconds", "dict built (s)", decimals=2, best=None),
        Column("peak_mib", "peak (MiB)", decimals=0, best=None),
        Column("load_seconds", "mapped (s)", decimals=3, best=None),
        Column("change_seconds", "changed (s)", decimals=3, best=None),
    ]
    kinds = (("walks", "step"), ("changed_walks", "step once changed"), ("peer_walks", "dict"))
    for place, one in enumerate(first.walks):
        columns += [
            Column(f"{name}{place}", f"{shown}, {one.beams} beams (µs)", decimals=0, best=None) for name, shown in kinds
        ]
        columns.append(Column(f"growth{place}", f"growth, {one.beams} beams", decimals=2, best=None))
    made = Table(columns, corner="Documents", caption="Prefix tree over docids: size, building, look-ups of one step")
    for result in results:
        values: dict[str, float | int | str | None] = {
            column.key: getattr(result, column.key) for column in columns if hasattr(result, column.key)
        }
        for place in range(len(first.walks)):
            for name, _ in kinds:
                found = getattr(result, name)
                values[f"{name}{place}"] = found[place].step_us if found else None
            values[f"growth{place}"] = result.walks[place].step_us / first.walks[place].step_us
        made.add_row(Row(f"{result.documents:,}", values))
    return made


def machine() -> dict[str, object]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "retgen": retgen.__version__,
    }


def at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} on, not {text!r}")
        return int(text)

    return number


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", nargs="+", type=at_least(2), default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--length", type=at_least(2), default=21, help="tokens of a docid, EOS included")
    parser.add_argument("--vocab", type=at_least(4), default=32_000, help="over 65,536 tokens take 32 bits")
    parser.add_argument("--beams", nargs="+", type=at_least(1), default=[10, 100])
    parser.add_argument("--batch", type=at_least(1), default=8, help="queries walked together")
    parser.add_argument("--repeats", type=at_least(1), default=5)
    parser.add_argument("--changes", type=at_least(1), default=1000, help="documents removed, and as many added")
    parser.add_argument("--peer-documents", type=at_least(0), default=100_000, help="largest size given to the dict")
    parser.add_argument("--folder", type=Path, help="where trees are saved meanwhile; 64 bytes a document")
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    parser.add_argument("--only", type=at_least(2), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only is not None:
        print(json.dumps(asdict(measure(options.only, options))))
        return
    results = []
    for documents in options.documents:
        print(f"measuring {documents:,} documents", file=sys.stderr)
        results.append(measure_apart(documents, arguments))
    if options.json:
        shared = {name: getattr(options, name) for name in ("length", "vocab", "batch", "repeats", "changes", "seed")}
        rows = [asdict(result) for result in results]
        print(json.dumps({"benchmark": "docid_tree", "machine": machine(), **shared, "results": rows}))
        return
    print(table(results).to_markdown())
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
