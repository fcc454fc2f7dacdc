"""What UniGen is trained on: input, docid, answer; and how triplets and pseudo questions become it.

The two stages of the paper ("Joint Learning of Retrieval and QA"): pre-training on ⟨q_k + d → d_c⟩, ⟨q_k + d → a_k⟩ and
fine-tuning on ⟨q_c → d_c⟩, ⟨q_c → a⟩.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from retgen.docids.table import DocidTable
from retgen.errors import UsageError
from retgen.models.marks import BOUNDARY, DOCID_END, without_marks
from retgen.types import DocumentSource, Query, Triplet

_SEPARATOR = f" {BOUNDARY} "
_DOCID_SEPARATOR = f" {DOCID_END} "


@dataclass(frozen=True, slots=True)
class UniGenExample:
    """One training example; a missing target is masked in its loss.

    Args:
        input_text: what the encoder reads.
        docid: token ids of the target docid, EOS last; empty for none.
        answers: accepted answers; the first is the answer decoder's target, all count as spans of the input. Empty for
            none.
        docid_text: the target docid as text: the block of the input that the answer's spans are looked for in.
    """

    input_text: str
    docid: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    docid_text: str = ""


def finetuning_examples(
    triplets: Iterable[Triplet], queries: Sequence[Query], table: DocidTable
) -> list[UniGenExample]:
    """⟨q_c → d_c⟩ and ⟨q_c → a⟩ in one example; a triplet with several relevant documents gives one for each.

    Args:
        triplets: questions with answers and relevant documents.
        queries: the same questions with the connectors the model is to read (plain questions where None).
        table: docids of the corpus.

    Raises:
        UsageError: a triplet's question is not among the queries.
        UnknownDocumentError: a relevant document is not in the corpus.
    """
    by_id = {query.id: query for query in queries}
    examples = []
    for triplet in triplets:
        query = by_id.get(triplet.query.id)
        if query is None:
            raise UsageError(f"question {triplet.query.id!r} has no input", mend="Write connectors for all questions")
        for doc_id in triplet.doc_ids or (None,):
            docid: tuple[int, ...] = ()
            docid_text = ""
            if doc_id is not None:
                number = table.number(doc_id)
                docid, docid_text = tuple(table.token_ids(number)), table.text(number)
            if docid or triplet.answers:
                examples.append(UniGenExample(query.input_text, docid, triplet.answers, docid_text))
    return examples


def pretraining_examples(
    pseudo: Iterable[Triplet], documents: DocumentSource, table: DocidTable, *, docid_in_input: bool = True
) -> list[UniGenExample]:
    """⟨q_k + d → d_c⟩ and ⟨q_k + d → a_k⟩: the document beside its pseudo question simulates a Q-Connector.

    Args:
        pseudo: pseudo questions with pseudo answers, one relevant document each.
        documents: gives the documents' texts.
        table: docids of the corpus.
        docid_in_input: open the document's block with its docid text, the way BM25 contexts are written, so that the
            copy head meets what it will see. False is the paper's plain concatenation.
    """
    examples = []
    for triplet in pseudo:
        for doc_id in triplet.doc_ids:
            number = table.number(doc_id)
            body = without_marks(documents[doc_id].text)
            docid_text = table.text(number)
            question = without_marks(triplet.query.text)
            if docid_in_input:
                text = f"{question}{_SEPARATOR}{without_marks(docid_text)}{_DOCID_SEPARATOR}{body} {BOUNDARY}"
            else:
                text = f"{question} {body}"
            examples.append(UniGenExample(text, tuple(table.token_ids(number)), triplet.answers, docid_text))
    return examples


def shuffle_passages(text: str, chance: random.Random) -> str:
    """A written context with its passages in random order; the question, and a previous answer, stay in front.

    Example:
        >>> sorted(shuffle_passages("q | a » x | b |", random.Random(0)).split())
        ['a', 'b', 'q', 'x', '|', '|', '|', '»']
    """
    body = text.removesuffix(f" {BOUNDARY}")
    closing = text[len(body) :]
    question, *passages = body.split(_SEPARATOR)
    chance.shuffle(passages)
    return _SEPARATOR.join([question, *passages]) + closing


def answer_characters(text: str, answers: Sequence[str], docid_text: str) -> list[tuple[int, int]]:
    """Where the answers stand in an input: character ranges, end exclusive.

    In the block of the relevant document where the input has blocks, and nowhere else then, since the same words in
    another passage need not answer the question; anywhere in an input without blocks. Only as whole words: 5 is not in
    1538.
    """
    ranges: set[tuple[int, int]] = set()
    blocks = _blocks(text, docid_text)
    # The marks of an answer were replaced when its passage became a block.
    for answer in {*answers, *map(without_marks, answers)} - {""}:
        for start, stop in blocks:
            ranges.update(place for place in _places(text, answer, start, stop) if _is_whole(text, *place))
    return sorted(ranges)


def _places(text: str, answer: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    place = text.find(answer, start, stop)
    while place >= 0:
        yield place, place + len(answer)
        place = text.find(answer, place + 1, stop)


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on beyond either end."""
    return not any(_joins(text[max(place - 1, 0) : place + 1]) for place in (start, end))


def _joins(pair: str) -> bool:
    # Scripts that write no spaces between words (letters of category Lo, such as Chinese) tell nothing of their ends.
    return len(pair) == 2 and pair.isalnum() and all(unicodedata.category(letter) != "Lo" for letter in pair)


def _blocks(text: str, docid_text: str) -> list[tuple[int, int]]:
    if BOUNDARY not in text:
        return [(0, len(text))]
    docid_text = without_marks(docid_text)
    found, place = [], text.find(_SEPARATOR)
    while place >= 0:
        start = place + len(_SEPARATOR)
        stop = text.find(_SEPARATOR, start)
        body = text[start : stop if stop >= 0 else len(text)]
        body = body.removesuffix(f" {BOUNDARY}")
        if docid_text and body.split(_DOCID_SEPARATOR, 1)[0] == docid_text:
            found.append((start, start + len(body)))
        place = stop
    return found
