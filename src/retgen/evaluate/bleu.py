"""BLEU-1 over a whole set of answers, and the three numbers per question that it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retgen.errors import UsageError
from retgen.evaluate.tokens import qna_tokens
from retgen.types import FloatArray

BLEU1_STATISTICS = ("matches", "length", "reference_length")
"""What `bleu1_statistics` returns, in order."""


def bleu1_statistics(prediction: str, answers: Sequence[str]) -> tuple[float, float, float]:
    """One question's share in BLEU-1.

    Args:
        prediction: the answer to score; may be empty.
        answers: the gold answers, at least one.

    Returns:
        matches (tokens of the prediction that an answer has, each at most as often as in the answer that has it most
        often), the prediction's length in tokens, and the length of the answer closest to it (the shorter of two
        equally close ones). Sums over questions give the corpus' BLEU-1.

    Raises:
        UsageError: there is no gold answer.

    Example:
        >>> bleu1_statistics("the the cat", ["the cat sat", "a cat"])
        (2.0, 3.0, 3.0)
    """
    if not answers:
        raise UsageError("BLEU-1 needs at least one gold answer for a question")
    candidate = Counter(qna_tokens(prediction))
    references = [Counter(qna_tokens(answer)) for answer in answers]
    length = candidate.total()
    matches = sum(min(count, max(r[token] for r in references)) for token, count in candidate.items())
    closest = min((abs(r.total() - length), r.total()) for r in references)[1]
    return float(matches), float(length), float(closest)


def bleu1(statistics: npt.ArrayLike) -> FloatArray:
    """BLEU-1 from summed statistics.

    Clipped unigram precision times the brevity penalty exp(1 − reference length / length) where the predictions are
    shorter than their closest answers. The MS MARCO QnA scorer adds 1e-15 and 1e-9 to guard its divisions; this
    returns 0 for empty predictions instead, and otherwise agrees to about 1e-9.

    Args:
        statistics: shape (..., 3), sums over questions of `bleu1_statistics`.

    Returns:
        Shape (...), in [0, 1].

    Reference:
        Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002; Bajaj et al.,
        "MS MARCO: A Human Generated MAchine Reading COmprehension Dataset", 2016.

    Example:
        >>> float(bleu1([2.0, 4.0, 4.0]))
        0.5
    """
    sums = np.asarray(statistics, dtype=np.float64)
    matches, length, reference_length = sums[..., 0], sums[..., 1], sums[..., 2]
    guarded = np.maximum(length, 1.0)
    brevity = np.exp(np.minimum(0.0, 1.0 - reference_length / guarded))
    return np.asarray(np.where(length > 0, matches / guarded * brevity, 0.0), dtype=np.float64)
