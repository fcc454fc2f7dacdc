"""How often beam search misses the best documents: `beam` and `lookahead` against `exact`, of a trained UniGen.

For every query the certified best documents are sought (`strategy="exact"`, `--expansions` prefixes at most). The table
says how many queries are certified, how many prefixes that took, and of the certified ones how often the top 1 and the
top k of `beam` and of `lookahead` are not the best (as sets: a docid in the wrong place among the k is not counted).

    python -m benchmarks.docid_exactness my-model my-index queries.jsonl --sample 200
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from retgen.docids.allowed import AllowedTree
from retgen.docids.search import search
from retgen.evaluate import Column, Row, Table
from retgen.formats import read_queries
from retgen.generative.over_index import open_unigen
from retgen.generative.unigen import UniGen
from retgen.index import Index
from retgen.models.session import UniGenSession
from retgen.types import Query


@dataclass(frozen=True)
class Exactness:
    """Of one width of beams. Shares are of all queries (``certified``) or of the certified ones (the others)."""

    beams: int
    queries: int
    certified: float
    budget_ended: float
    tied: float
    median_expansions: float
    beam_misses_first: float
    beam_misses_best: float
    lookahead_misses_first: float
    lookahead_misses_best: float


def compare(system: UniGen, queries: Sequence[Query], beams: int, k: int, expansions: int) -> Exactness:
    """Search by all three strategies, encoding every input once."""
    view = AllowedTree(system.tree)
    start = system.model.start_token_id
    statuses: list[str] = []
    read: list[int] = []
    misses: list[list[bool]] = []
    for numbers, _, encoded in system._encode(system.with_connectors(queries)):
        found = {
            strategy: search(
                UniGenSession(system.model, encoded, "retrieval"),
                view,
                start_token_id=start,
                num_beams=beams,
                k=k,
                strategy=strategy,
                max_expansions=expansions,
            )
            for strategy in ("exact", "beam", "lookahead")
        }
        best = found["exact"]
        for row in range(len(numbers)):
            certificate = (best.certificates or [])[row]
            statuses.append(certificate.status)
            read.append(certificate.expanded)
            if certificate.certified:
                # Documents that share a docid are equally good, and so are docids: leaves are compared.
                truth = best.leaves[row]
                others = [found[strategy].leaves[row] for strategy in ("beam", "lookahead")]
                misses.append(
                    [
                        missed
                        for other in others
                        for missed in (list(other[:1]) != list(truth[:1]), set(other) != set(truth))
                    ]
                )
    shares = np.mean(misses, axis=0) if misses else np.full(4, np.nan)
    return Exactness(
        beams,
        len(statuses),
        *(statuses.count(status) / max(1, len(statuses)) for status in ("certified", "budget", "tie")),
        float(np.median(read)) if read else float("nan"),
        *shares.tolist(),
    )


def table(results: Sequence[Exactness], k: int, expansions: int) -> Table:
    names = {
        "certified": "Certified %",
        "budget_ended": "Budget ended %",
        "tied": "Tied %",
        "median_expansions": "Prefixes read (median)",
        "beam_misses_first": "beam: other top 1 %",
        "beam_misses_best": f"beam: other top {k} %",
        "lookahead_misses_first": "lookahead: other top 1 %",
        "lookahead_misses_best": f"lookahead: other top {k} %",
    }
    columns = [Column(key, name, decimals=1, best=None) for key, name in names.items()]
    queries = results[0].queries
    made = Table(columns, corner="Beams", caption=f"{queries} queries, exact search of {expansions} prefixes at most")
    for result in results:
        values = {
            key: (1 if key == "median_expansions" else 100) * value
            for key, value in asdict(result).items()
            if key in names and not np.isnan(value)
        }
        made.add_row(Row(str(result.beams), values))
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a trained UniGen")
    parser.add_argument("index", type=Path, help="the index it was trained on")
    parser.add_argument("queries", help="BEIR queries.jsonl, a .tsv, a SQuAD .json")
    parser.add_argument("--beams", nargs="+", type=int, default=[10])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--expansions", type=int, default=200)
    parser.add_argument("--sample", type=int, help="queries drawn [all]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    options = parser.parse_args(arguments)

    queries = list(read_queries(options.queries))
    if options.sample is not None and options.sample < len(queries):
        chosen = np.random.default_rng(options.seed).choice(len(queries), size=options.sample, replace=False)
        queries = [queries[number] for number in sorted(chosen)]
    system = open_unigen(options.model, Index.open(options.index))
    results = []
    for beams in options.beams:
        print(f"searching with {beams} beams", file=sys.stderr)
        results.append(compare(system, queries, beams, options.k, options.expansions))
    if options.json:
        print(json.dumps({"benchmark": "docid_exactness", "k": options.k, "results": [asdict(r) for r in results]}))
        return
    print(table(results, options.k, options.expansions).to_markdown())


if __name__ == "__main__":
    main()
