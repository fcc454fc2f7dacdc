"""Pictures: what is drawn is the numbers' mean and spread, files are whole, of their kind, and repeatable."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color

from retgen.errors import MissingExtraError, UsageError
from retgen.evaluate.plots import (
    Curve,
    iteration_curves,
    learning_curves,
    risk_coverage_curves,
    save_figure,
    side_by_side,
)
from retgen.evaluate.selective import risk_coverage

MRR = Curve("MRR@10", [0, 100, 200], [[0.1, 0.5, 0.7], [0.3, 0.6, 0.9]])
EM = Curve("EM", [0, 100, 200], [[0.0, 0.2, 0.3], [0.0, 0.4, 0.5]])


def test_learning_curves_show_mean_and_one_standard_deviation_on_two_axes() -> None:
    figure = learning_curves(MRR, EM, title="SQuAD")
    left, right = figure.axes
    assert left.get_lines()[0].get_ydata() == pytest.approx([0.2, 0.55, 0.8])
    assert right.get_lines()[0].get_ydata() == pytest.approx([0.0, 0.3, 0.4])
    assert (left.get_ylabel(), right.get_ylabel(), left.get_xlabel()) == ("MRR@10", "EM", "Training steps")
    assert same_color(left.get_lines()[0].get_color(), "tab:blue")
    assert same_color(right.get_lines()[0].get_color(), "tab:red")
    band = left.collections[0].get_paths()[0].vertices
    std = np.std([0.7, 0.9], ddof=1)
    assert band[:, 1].max() == pytest.approx(0.8 + std)
    assert band[:, 1].min() == pytest.approx(0.2 - np.std([0.1, 0.3], ddof=1))


def test_iteration_curves_have_one_tick_per_round() -> None:
    base = Curve("MRR@10", [0, 1, 2, 5], [0.6, 0.62, 0.65, 0.66])
    left, _ = iteration_curves(base, Curve("BLEU-1", [0, 2], [0.2, 0.3])).axes
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["0", "1", "2", "5"]
    assert not left.collections  # one seed: nothing to say about spread


def test_several_panels_have_their_titles_and_one_legend() -> None:
    other = Curve("MRR@10", [0, 2], [0.5, 0.6])
    figure = side_by_side([("almanac", MRR, EM), ("squad", other, Curve("EM", [0, 2], [0.3, 0.4]))])
    first, second, *twins = figure.axes
    assert [first.get_title(), second.get_title(), len(twins)] == ["almanac", "squad", 2]
    assert [tick.get_text() for tick in second.get_xticklabels()] == ["0", "2"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MRR@10", "EM"]
    with pytest.raises(UsageError, match="nothing to draw"):
        side_by_side([])


def test_curves_over_seeds_with_gaps() -> None:
    curve = Curve.from_seeds("EM", [{200: 0.4, 100: 0.2}, {100: 0.4}])
    assert np.asarray(curve.positions).tolist() == [100, 200]
    assert curve.mean == pytest.approx([0.3, 0.4])
    assert curve.std == pytest.approx([np.std([0.2, 0.4], ddof=1), 0.0])


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".PNG"])
def test_pictures_are_written_by_suffix_and_repeatable(tmp_path: Path, suffix: str) -> None:
    one = save_figure(learning_curves(MRR, EM), tmp_path / f"one{suffix}").read_bytes()
    two = save_figure(learning_curves(MRR, EM), tmp_path / f"two{suffix}").read_bytes()
    assert one == two
    start = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix.lower()]
    assert one.startswith(start)
    if suffix == ".svg":
        assert ET.fromstring(one).tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one{suffix}", f"two{suffix}"]


def test_no_window_system_is_touched() -> None:
    code = (
        "import sys\n"
        "from retgen.evaluate.plots import Curve, learning_curves\n"
        "loaded = 'matplotlib' in sys.modules\n"
        "learning_curves(Curve('a', [0], [1.0]), Curve('b', [0], [1.0]))\n"
        "print(loaded, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_missing_matplotlib_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"retgen\[plots\]"):
        learning_curves(MRR, EM)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'\.gif'.*\.svg"):
        save_figure(learning_curves(MRR, EM), tmp_path / "curves.gif")
    with pytest.raises(UsageError, match="as many values per seed"):
        Curve("EM", [0, 1], [[0.1, 0.2, 0.3]])
    with pytest.raises(UsageError, match="as many values per seed"):
        Curve.from_seeds("EM", [])
    with pytest.raises(UsageError, match="must rise"):
        Curve("EM", [1, 1], [0.1, 0.2])
    with pytest.raises(UsageError, match="no seed has a value"):
        Curve("EM", [0, 1], [0.1, float("nan")])


def test_risk_coverage_curves_draw_the_curves_points(tmp_path: Path) -> None:
    curve = risk_coverage([0.9, 0.8, 0.3, 0.2], [1, 1, 0, 1])
    figure = risk_coverage_curves({"FiD": curve, "closed book": risk_coverage([0.5, 0.4], [0, 1])}, title="SQuAD")
    (axes,) = figure.axes
    first, second = axes.get_lines()
    assert first.get_xdata() == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert first.get_ydata() == pytest.approx([0.0, 0.0, 1 / 3, 0.25])
    assert first.get_label() == f"FiD (area {curve.area:.3f})"
    assert second.get_ydata() == pytest.approx([1.0, 0.5])
    assert save_figure(figure, tmp_path / "risk.svg").stat().st_size > 1000
    with pytest.raises(UsageError, match="nothing to draw"):
        risk_coverage_curves({})
