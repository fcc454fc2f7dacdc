"""Constrained beam search over docids: `retgen.docids.search` against transformers' `generate` with a dict trie.

Both run in this process, on the same random T5 weights, inputs, docids and beams, in turns. Both are timed whole, from
the encoder's inputs to the hits. What they find is compared hit for hit; if it differs, the benchmark fails. Times are
medians over repeats; a ratio above 1 says that retgen is quicker.
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
from typing import TypeVar

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

import retgen
from retgen.docids.prefix_tree import PrefixTree
from retgen.docids.search import search
from retgen.evaluate import Column, Row, Table
from retgen.models.seq2seq_session import Seq2SeqSession

PAD, EOS = 0, 1
TOLERANCE = 1e-4
"""Most that two log-probabilities of one docid may differ by, per unit of their size where that is above 1."""

SHAPES = {
    "tiny": {"vocab_size": 1000, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "mini": {"vocab_size": 8192, "d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_heads": 4},
    "small": {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
}
"""``small`` has the shape of t5-small."""

Inputs = tuple[torch.Tensor, torch.Tensor]
Docid = tuple[int, ...]
Hits = list[tuple[Docid, float]]
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
class Measured:
    """Medians over repeats; milliseconds are per query, ``ratio`` is ``peer_ms / ours_ms``."""

    setting: Setting
    ours_ms: float
    peer_ms: float
    ratio: float
    ours_build_seconds: float
    peer_build_seconds: float
    hits_compared: int


class DictTrie:
    """The usual way: prefix → tokens that may follow, made beforehand, so that one step costs one look-up a beam."""

    def __init__(self, docids: Sequence[Docid]) -> None:
        following: dict[Docid, set[int]] = {}
        for docid in docids:
            for place, token in enumerate(docid):
                following.setdefault(docid[:place], set()).add(token)
        self.following = {prefix: list(tokens) for prefix, tokens in following.items()}
        self.longest = max(map(len, docids))

    def allowed(self, _: int, written: torch.Tensor) -> list[int]:
        # Behind a docid's end generate still asks; what it is told there reaches no result.
        return self.following.get(tuple(written[1:].tolist()), [EOS])


def random_t5(shape: str, seed: int) -> PreTrainedModel:
    """A T5 with random weights, its output scaled so that docids' probabilities lie well apart."""
    torch.manual_seed(seed)
    config = T5Config(
        **SHAPES[shape],
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=PAD,
        dropout_rate=0.0,
        tie_word_embeddings=False,
    )
    model = T5ForConditionalGeneration(config).eval()
    probe = torch.arange(2, 66).reshape(4, 16)
    with torch.inference_mode():
        spread = model(input_ids=probe, decoder_input_ids=probe).logits.std()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2.5 / spread.item())
    return model


def random_docids(count: int, vocab: int, rng: np.random.Generator) -> list[Docid]:
    """Distinct docids of 6 to 12 tokens and EOS; few tokens are frequent, as in words, so that prefixes are shared."""
    weights = 1.0 / np.arange(1, vocab - 1)
    weights /= weights.sum()
    found: dict[Docid, None] = {}
    while len(found) < count:
        lengths = rng.integers(6, 13, size=count - len(found))
        drawn = rng.choice(vocab - 2, size=(len(lengths), 12), p=weights) + 2
        found.update(((*row[:length], EOS), None) for row, length in zip(drawn.tolist(), lengths, strict=True))
    return list(found)


def random_blocks(queries: int, batch: int, longest: int, vocab: int, rng: np.random.Generator) -> list[Inputs]:
    """Padded inputs of unequal length, in blocks."""
    blocks = []
    for first in range(0, queries, batch):
        lengths = rng.integers(max(1, longest // 2), longest + 1, size=min(batch, queries - first))
        ids = torch.zeros((len(lengths), int(lengths.max())), dtype=torch.int64)
        for row, length in enumerate(lengths):
            ids[row, :length] = torch.from_numpy(rng.integers(2, vocab, size=length))
        blocks.append((ids, (torch.arange(ids.shape[1]) < torch.from_numpy(lengths)[:, None]).long()))
    return blocks


def ours(model: PreTrainedModel, inputs: Inputs, tree: PrefixTree, beams: int) -> list[Hits]:
    session = Seq2SeqSession.encode(model, *inputs)
    hits = search(session, tree, start_token_id=PAD, num_beams=beams, k=beams)
    return [
        [(tuple(tree.token_ids(int(leaf))), float(score)) for leaf, score in zip(leaves, scores, strict=True)]
        for leaves, scores in zip(hits.leaves, hits.scores, strict=True)
    ]


def peer(model: PreTrainedModel, inputs: Inputs, trie: DictTrie, beams: int) -> list[Hits]:
    ids, mask = inputs
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        max_new_tokens=trie.longest,
        prefix_allowed_tokens_fn=trie.allowed,
        length_penalty=0.0,
        early_stopping=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found: list[Hits] = [[] for _ in ids]
    for row, (written, score) in enumerate(
        zip(output.sequences[:, 1:].tolist(), output.sequences_scores.tolist(), strict=True)
    ):
        if score > -1e8:  # with fewer docids than beams, generate fills up with copies at −1e9
            found[row // beams].append((tuple(written[: written.index(EOS) + 1]), score))
    return found


def check_same(setting: Setting, found: Sequence[Hits], expected: Sequence[Hits]) -> int:
    """Number of hits compared.

    Raises:
        SystemExit: another docid at some rank, or another score.
    """
    for query, (mine, other) in enumerate(zip(found, expected, strict=True)):
        same = [docid for docid, _ in mine] == [docid for docid, _ in other] and all(
            abs(score - wanted) <= TOLERANCE * max(1.0, abs(wanted))
            for (_, score), (_, wanted) in zip(mine, other, strict=True)
        )
        if not same:
            raise SystemExit(f"{setting}: query {query} has other hits\n  ours {mine}\n  peer {other}")
    return sum(map(len, expected))


def measure(setting: Setting, *, queries: int, input_tokens: int, repeats: int, seed: int) -> Measured:
    rng = np.random.default_rng(seed)
    model = random_t5(setting.model, seed)
    vocab = model.config.vocab_size
    docids = random_docids(setting.documents, vocab, rng)
    blocks = random_blocks(queries, setting.batch, input_tokens, vocab, rng)
    tree, tree_seconds = timed(lambda: PrefixTree.build(docids, eos_token_id=EOS))
    trie, trie_seconds = timed(lambda: DictTrie(docids))

    def search_all() -> list[Hits]:
        return [hits for block in blocks for hits in ours(model, block, tree, setting.beams)]

    def generate_all() -> list[Hits]:
        return [hits for block in blocks for hits in peer(model, block, trie, setting.beams)]

    compared = check_same(setting, search_all(), generate_all())  # and both are warm after it
    mine, theirs = [], []
    for _ in range(repeats):
        mine.append(timed(search_all)[1])
        theirs.append(timed(generate_all)[1])
    ours_seconds, peer_seconds = statistics.median(mine), statistics.median(theirs)
    return Measured(
        setting,
        ours_ms=1000 * ours_seconds / queries,
        peer_ms=1000 * peer_seconds / queries,
        ratio=peer_seconds / ours_seconds,
        ours_build_seconds=tree_seconds,
        peer_build_seconds=trie_seconds,
        hits_compared=compared,
    )


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
        Column("ours_ms", "retgen (ms/query)", decimals=1, best=None),
        Column("peer_ms", "generate (ms/query)", decimals=1, best=None),
        Column("ratio", "generate / retgen", decimals=2, best=None),
        Column("ours_build_seconds", "tree built (s)", decimals=2, best=None),
        Column("peer_build_seconds", "dict built (s)", decimals=2, best=None),
    ]
    compared = sum(result.hits_compared for result in results)
    made = Table(columns, corner="Setting", caption=f"Docid search: the same {compared} hits from both")
    for result in results:
        made.add_row(Row(str(result.setting), {column.key: getattr(result, column.key) for column in columns}))
    return made


def at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"a whole number from {lowest} on, not {text!r}")
        return int(text)

    return number


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=list(SHAPES), default=["mini", "small"], help="shapes of T5")
    parser.add_argument("--documents", nargs="+", type=at_least(1), default=[10_000])
    # One beam is greedy decoding, for which generate gives no scores.
    parser.add_argument("--beams", nargs="+", type=at_least(2), default=[10])
    parser.add_argument("--batch", nargs="+", type=at_least(1), default=[8], help="queries searched together")
    parser.add_argument("--queries", type=at_least(1), default=16)
    parser.add_argument("--input-tokens", type=at_least(1), default=64, help="of the longest query")
    parser.add_argument("--repeats", type=at_least(1), default=3)
    parser.add_argument("--seed", type=at_least(0), default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    options = parser.parse_args(arguments)

    transformers.logging.set_verbosity_error()
    results = []
    for chosen in itertools.product(options.model, options.documents, options.beams, options.batch):
        setting = Setting(*chosen)
        print(f"measuring {setting}", file=sys.stderr)
        results.append(
            measure(
                setting,
                queries=options.queries,
                input_tokens=options.input_tokens,
                repeats=options.repeats,
                seed=options.seed,
            )
        )
    if options.json:
        shared = {name: getattr(options, name) for name in ("queries", "input_tokens", "repeats", "seed")}
        rows = [asdict(result) for result in results]
        print(json.dumps({"benchmark": "docid_search", "machine": machine(), **shared, "results": rows}))
        return
    print(table(results).to_markdown())
    print(", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
