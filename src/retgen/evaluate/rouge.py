"""ROUGE-L with β = 1.2, as the MS MARCO QnA scorer computes it."""

from __future__ import annotations

from collections.abc import Sequence

from retgen.errors import UsageError
from retgen.evaluate.tokens import qna_tokens

ROUGE_BETA = 1.2
"""The weight of recall in the scorer's F-measure."""


def rouge_l(prediction: str, answers: Sequence[str], *, beta: float = ROUGE_BETA) -> float:
    """ROUGE-L of one answer.

    With the longest common subsequence LCS of prediction and answer, precision is LCS / prediction length and recall
    LCS / answer length. The best precision and the best recall over the answers, which may come from two different
    ones, are joined as (1 + β²)·P·R / (R + β²·P). An empty prediction scores 0.

    Args:
        prediction: the answer to score.
        answers: the gold answers, at least one.
        beta: above 1 recall weighs more; 1.2 is the scorer's.

    Returns:
        A value in [0, 1].

    Raises:
        UsageError: there is no gold answer.

    Reference:
        Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.

    Example:
        >>> round(rouge_l("the cat sat", ["the cat", "a dog sat there"]), 4)
        0.8299
    """
    if not answers:
        raise UsageError("ROUGE-L needs at least one gold answer for a question")
    candidate = qna_tokens(prediction)
    precision = recall = 0.0
    for answer in answers:
        reference = qna_tokens(answer)
        common = _common_subsequence_length(candidate, reference)
        if common:
            precision = max(precision, common / len(candidate))
            recall = max(recall, common / len(reference))
    if not precision:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _common_subsequence_length(left: Sequence[str], right: Sequence[str]) -> int:
    row = [0] * (len(right) + 1)
    for token in left:
        diagonal = 0
        for column, other in enumerate(right, start=1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
