"""Answer measures: golden cases worked out by hand, parity with rouge_score's LCS, bounds and invariances."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer, tokenizers

from retgen.errors import UsageError
from retgen.evaluate import bleu1, bleu1_statistics, evaluate_answers, exact_match, f1, rouge_l
from retgen.evaluate.tokens import qna_tokens
from retgen.text import normalise_answer

texts = st.lists(st.sampled_from(["the", "a", "cat", "Cat,", "sat", "mat.", "on", "1,000", "don't"]), max_size=8).map(
    " ".join
)
answer_lists = st.lists(texts, min_size=1, max_size=3)


# --- SQuAD: the numbers are those of the official 2.0 scorer's definition, by hand ------------------------------------


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "f1_value"),
    [
        ("Paris", ["Paris"], 1.0, 1.0),
        ("the  PARIS!", ["Paris"], 1.0, 1.0),  # article, case, punctuation, spaces
        ("a an the", ["an apple"], 0.0, 0.0),  # nothing is left of the prediction
        ("theatre", ["atre"], 0.0, 0.0),  # articles are whole words
        ("U.S.", ["us"], 1.0, 1.0),  # punctuation goes without leaving a space
        ("twenty-one", ["twenty one"], 0.0, 0.0),  # so that a hyphen joins
        ("in the city of Paris", ["Paris"], 0.0, 0.4),  # P 1/4, R 1/1
        ("Paris Paris", ["Paris"], 0.0, 2 / 3),  # counted once: P 1/2, R 1
        ("cat sat mat", ["cat mat dog", "the cat sat"], 0.0, 0.8),  # max of 2·2/6 and 2·2/5
        ("", ["Paris"], 0.0, 0.0),
        ("Paris", [], 0.0, 0.0),  # unanswerable
        ("", [], 1.0, 1.0),
        ("the", [""], 1.0, 1.0),
        ("", ["the", "Paris"], 0.0, 0.0),  # a gold answer of nothing is left out beside a real one
        ("Zürich", ["zürich"], 1.0, 1.0),
    ],
)
def test_squad_golden_cases(prediction: str, answers: list[str], em: float, f1_value: float) -> None:
    assert exact_match(prediction, answers) == em
    assert f1(prediction, answers) == pytest.approx(f1_value)


@given(texts, answer_lists)
@settings(max_examples=200, deadline=None)
def test_exact_match_never_exceeds_f1_and_more_answers_never_hurt(prediction: str, answers: list[str]) -> None:
    assert 0.0 <= exact_match(prediction, answers) <= f1(prediction, answers) <= 1.0
    assert f1(prediction, answers) == f1(prediction, answers[::-1])
    more = [*answers, "cat"]
    if any(normalise_answer(answer) for answer in answers):  # else the question was unanswerable before
        assert f1(prediction, more) >= f1(prediction, answers)
    assert exact_match("cat", more) == 1.0


# --- BLEU-1 -----------------------------------------------------------------------------------------------------------


def test_bleu1_golden_case() -> None:
    # Counts are clipped by the answer that has a token most often; the closest answer gives the reference length.
    assert bleu1_statistics("the the the cat", ["the the dog sat down now", "the cat"]) == (3.0, 4.0, 2.0)
    assert bleu1_statistics("the cat sat", ["the cat", "the cat sat here"]) == (3.0, 3.0, 2.0)  # a tie: the shorter
    assert bleu1_statistics("", ["two words", "three words here"]) == (0.0, 0.0, 2.0)


def test_bleu1_is_computed_on_sums_and_not_averaged() -> None:
    # 1 of 1 and 1 of 3 tokens match: precision 2/4, and 4 tokens against 1 + 5 reference tokens: brevity e^(1 - 6/4).
    gold = {"q1": ["yes"], "q2": ["no it is not so"]}
    result = evaluate_answers({"q1": "yes", "q2": "no dogs here"}, gold, ["BLEU-1"])
    assert result.means["BLEU-1"] == pytest.approx(0.5 * math.exp(-0.5))
    assert result.per_question == {}
    assert result.statistics["BLEU-1"] == {"q1": (1.0, 1.0, 1.0), "q2": (1.0, 3.0, 5.0)}
    assert result.means["BLEU-1"] == pytest.approx(float(bleu1(np.sum(list(result.statistics["BLEU-1"].values()), 0))))


def test_the_shape_of_the_official_scorers_sample() -> None:
    # The MS MARCO QnA scorer's own test expects .00852 and .03093 for two questions of these counts (other words):
    # no match against answers of 1 and 2 tokens, and one common token of 2 against answers of 13 and 26 tokens.
    gold = {
        "q1": ["bx2", "bx2 formation"],
        "q2": [
            "Common ones are anaemia, slow clots such as thrombosis, thick blood, and rare tumours such as sarcoma, "
            "lymphoma, or melanoma.",
            "flu, measles B, measles C, and airborne viral fevers.",
        ],
    }
    result = evaluate_answers({"q1": "bx3", "q2": "Mild anaemia"}, gold, ["BLEU-1", "ROUGE-L"])
    assert [len(qna_tokens(answer)) for answer in gold["q2"]] == [26, 13]
    assert f"{result.means['BLEU-1']:.5f}" == "0.00852"
    assert f"{result.means['ROUGE-L']:.5f}" == "0.03093"


def test_bleu1_bounds() -> None:
    assert evaluate_answers({"q": "The cat."}, {"q": ["the cat ."]}, ["BLEU-1"]).means == {"BLEU-1": 1.0}
    assert evaluate_answers({"q": ""}, {"q": ["the cat"]}, ["BLEU-1"]).means == {"BLEU-1": 0.0}
    assert evaluate_answers({"q": ""}, {"q": [""]}, ["BLEU-1"]).means == {"BLEU-1": 0.0}
    assert bleu1(np.zeros((4, 3))).tolist() == [0.0] * 4


# --- ROUGE-L ----------------------------------------------------------------------------------------------------------


def test_rouge_l_golden_cases() -> None:
    # LCS "the cat on" = 3 of 4 and of 5 tokens: P .75, R .6, F = 2.44·.45 / (.6 + 1.44·.75).
    assert rouge_l("the cat on mat", ["the fat cat sat on"]) == pytest.approx(2.44 * 0.45 / (0.6 + 1.44 * 0.75))
    # Precision comes from the first answer, recall from the second.
    assert rouge_l("b c", ["a b c d", "b"]) == pytest.approx(1.0)
    assert rouge_l("b a", ["a b"]) == pytest.approx(0.5)
    assert rouge_l("x", ["a b"]) == rouge_l("", ["a b"]) == rouge_l("", [""]) == 0.0


class _QnATokenizer(tokenizers.Tokenizer):  # type: ignore[misc]
    def tokenize(self, text: str) -> list[str]:
        return qna_tokens(text)


@given(texts, answer_lists)
@settings(max_examples=200, deadline=None)
def test_rouge_l_parity_with_rouge_score(prediction: str, answers: list[str]) -> None:
    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_QnATokenizer())
    scores = [scorer.score(answer, prediction)["rougeL"] for answer in answers]
    precision, recall = max(s.precision for s in scores), max(s.recall for s in scores)
    expected = 2.44 * precision * recall / (recall + 1.44 * precision) if precision and recall else 0.0
    assert rouge_l(prediction, answers) == pytest.approx(expected)
    assert 0.0 <= rouge_l(prediction, answers) <= 1.0


# --- Tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It's $15,000.50 per year.", "it 's $ 15,000.50 per year ."),
        ("They don't, can't and cannot", "they do n't , ca n't and can not"),
        ("well-known (since 1999)", "well - known ( since 1999 )"),
        ("the U.S. and e.g. F. Kafka", "the u.s. and e.g. f. kafka"),
        ("10km at 9:30am, 5%", "10 km at 9:30am , 5 %"),
        ("follicle.It ends", "follicle . it ends"),
        ("wait... what", "wait ... what"),
        ("omega-3 at example.com", "omega-3 at example.com"),
        ("naïve Zürich 東京", "naïve zürich 東京"),
        ("मदार का पेड़", "मदार का पेड़"),
        ("snake_case 'quoted'", "snake_case ' quoted '"),
        ("  \t\n ", ""),
    ],
)
def test_tokens_are_split_as_spacy_splits_them(text: str, tokens: str) -> None:
    # The expected splits are spaCy 3.8's (`spacy.blank("en")`), lower-cased.
    assert qna_tokens(text) == tokens.split()


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_tokens_lose_nothing_but_white_space(text: str) -> None:
    assert "".join(qna_tokens(text)) == "".join(token.lower() for token in text.split())


# --- All together -----------------------------------------------------------------------------------------------------


def test_missing_predictions_count_zero_and_are_counted() -> None:
    gold = {"q1": ["Paris"], "q2": ["Rome"], "q3": []}
    result = evaluate_answers({"q1": "Paris", "other": "x"}, gold, ["EM", "F1", "has_answer", "BLEU-1", "ROUGE-L"])
    assert result.per_question["EM"] == {"q1": 1.0, "q2": 0.0, "q3": 0.0}
    assert result.means["EM"] == result.means["F1"] == pytest.approx(1 / 3)
    # The question without answers is left out here, as in the measures' own scorers.
    assert result.means["has_answer"] == result.means["ROUGE-L"] == 0.5
    assert result.means["BLEU-1"] == pytest.approx(math.exp(-1.0))
    assert (result.num_questions, result.missing, result.unjudged, result.unanswerable) == (3, 2, 1, 1)


def test_unanswerable_questions_want_an_empty_answer() -> None:
    result = evaluate_answers({"q1": "", "q2": "x"}, {"q1": [], "q2": []})
    assert result.per_question["EM"] == result.per_question["F1"] == {"q1": 1.0, "q2": 0.0}


def test_has_answer_looks_for_whole_tokens() -> None:
    gold = {"q1": ["New York"], "q2": ["York"], "q3": ["1999"]}
    predictions = {"q1": "He lived in new york.", "q2": "Yorkshire", "q3": "in 1999, or so"}
    result = evaluate_answers(predictions, gold, ["has_answer"])
    assert result.per_question["has_answer"] == {"q1": 1.0, "q2": 0.0, "q3": 1.0}


def test_names_are_kept_as_asked() -> None:
    result = evaluate_answers({"q": "Paris"}, {"q": ["Paris"]}, ["em", "rouge_l", "bleu1"])
    assert result.means == {"em": 1.0, "rouge_l": pytest.approx(1.0), "bleu1": 1.0}


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown answer measure 'METEOR'.*EM, F1"):
        evaluate_answers({}, {"q": ["a"]}, ["METEOR"])
    with pytest.raises(UsageError, match="no answer measures"):
        evaluate_answers({}, {"q": ["a"]}, [])
    with pytest.raises(UsageError, match="no gold answers"):
        evaluate_answers({}, {})
    with pytest.raises(UsageError, match="one text, not a list"):
        evaluate_answers({}, {"q": "Paris"})
    with pytest.raises(UsageError, match="BLEU-1 needs gold answers"):
        evaluate_answers({"q": "a"}, {"q": []}, ["BLEU-1"])
    with pytest.raises(UsageError, match="at least one gold answer"):
        rouge_l("a", [])
    with pytest.raises(UsageError, match="at least one gold answer"):
        bleu1_statistics("a", [])


@given(st.dictionaries(st.sampled_from("abcdef"), texts), st.dictionaries(st.sampled_from("abcdef"), answer_lists))
@settings(max_examples=100, deadline=None)
def test_means_are_bounded_and_ignore_the_order_of_questions(
    predictions: dict[str, str], gold: dict[str, list[str]]
) -> None:
    if not gold:
        return
    measures = ["EM", "F1", "has_answer", "BLEU-1", "ROUGE-L"]
    result = evaluate_answers(predictions, gold, measures)
    turned = evaluate_answers(dict(reversed(predictions.items())), dict(reversed(gold.items())), measures)
    for name in measures:
        assert 0.0 <= result.means[name] <= 1.0
        assert turned.means[name] == pytest.approx(result.means[name])


def test_scoring_the_gold_answers_gives_one(shared_data: Path) -> None:
    path = shared_data / "squad" / "dev-v1.1.json"
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    gold = {
        qa["id"]: [answer["text"] for answer in qa["answers"]]
        for article in articles[:10]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    result = evaluate_answers({q: answers[-1] for q, answers in gold.items()}, gold, ["EM", "F1", "ROUGE-L", "BLEU-1"])
    assert result.num_questions > 1000
    assert result.means == {name: pytest.approx(1.0) for name in ("EM", "F1", "ROUGE-L", "BLEU-1")}
