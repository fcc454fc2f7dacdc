"""Measures, tests and tables: what a run or a set of answers is worth, and how sure that is.

Everything here is light to import: ir_measures and matplotlib are loaded by the functions that need them.
"""

from __future__ import annotations

from retgen.evaluate.answers import ANSWER_MEASURES, AnswerResult, evaluate_answers, exact_match, f1
from retgen.evaluate.bleu import bleu1, bleu1_statistics
from retgen.evaluate.bootstrap import Interval, bootstrap_corpus, bootstrap_difference, bootstrap_mean
from retgen.evaluate.calibration import Calibration, expected_calibration_error, fit_calibration
from retgen.evaluate.citations import CITATION_MEASURES, CitationResult, evaluate_citations
from retgen.evaluate.comparison import Comparison, compare, compare_corpus
from retgen.evaluate.pairing import mean_over_seeds
from retgen.evaluate.plots import Curve, iteration_curves, learning_curves, risk_coverage_curves, save_figure
from retgen.evaluate.retrieval import COMMON_MEASURES, RetrievalResult, evaluate_run, parse_measure
from retgen.evaluate.rouge import rouge_l
from retgen.evaluate.selective import RiskCoverage, risk_coverage
from retgen.evaluate.significance import (
    PairedTest,
    corpus_randomisation_test,
    holm,
    paired_t_test,
    randomisation_test,
)
from retgen.evaluate.table import Table
from retgen.evaluate.table_parts import Column, Row, Section

__all__ = [
    "ANSWER_MEASURES",
    "CITATION_MEASURES",
    "COMMON_MEASURES",
    "AnswerResult",
    "Calibration",
    "CitationResult",
    "Column",
    "Comparison",
    "Curve",
    "Interval",
    "PairedTest",
    "RetrievalResult",
    "RiskCoverage",
    "Row",
    "Section",
    "Table",
    "bleu1",
    "bleu1_statistics",
    "bootstrap_corpus",
    "bootstrap_difference",
    "bootstrap_mean",
    "compare",
    "compare_corpus",
    "corpus_randomisation_test",
    "evaluate_answers",
    "evaluate_citations",
    "evaluate_run",
    "exact_match",
    "expected_calibration_error",
    "f1",
    "fit_calibration",
    "holm",
    "iteration_curves",
    "learning_curves",
    "mean_over_seeds",
    "paired_t_test",
    "parse_measure",
    "randomisation_test",
    "risk_coverage",
    "risk_coverage_curves",
    "rouge_l",
    "save_figure",
]
