"""Pictures: what is drawn is what was computed; matplotlib is a guest."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import nmfcore

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra: plot)")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402

X = np.array([[5, 3, 0, 1], [4, 0, 0, 1], [1, 1, 0, 5], [1, 0, 0, 4], [0, 1, 5, 4]], float)
HALS = nmfcore.solvers.HALS(sweeps=1, extrapolate=False)
MU = nmfcore.solvers.MU(extrapolate=False)


@pytest.fixture(autouse=True)
def _close():
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fits():
    return {str(s): nmfcore.factorize(X, 2, solver=s, random_state=0, tol=0, max_iter=8) for s in (HALS, MU)}


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("y", ["objective", "kkt"])
@pytest.mark.parametrize("x", ["iteration", "seconds"])
def test_convergence_draws_the_history(fits, x, y):
    ax = nmfcore.plot.convergence(fits, x=x, y=y)
    assert [line.get_label() for line in ax.lines] == list(fits)
    for line, f in zip(ax.lines, fits.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), getattr(f.history, x))
        np.testing.assert_array_equal(line.get_ydata(), getattr(f.history, y))
    assert ax.get_yscale() == ("log" if y == "kkt" else "linear")
    assert ax.get_xlabel() == x
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(fits)


def test_the_gap_is_measured_from_the_best_of_all_and_its_zero_is_left_out(fits):
    ax = nmfcore.plot.convergence(fits)
    best = min(f.objective for f in fits.values())
    for line, f in zip(ax.lines, fits.values(), strict=True):
        gap = f.history.objective - best
        np.testing.assert_array_equal(line.get_ydata(), np.where(gap > 0, gap, np.nan))
    assert np.isnan(np.concatenate([line.get_ydata() for line in ax.lines])).sum() == 1
    assert ax.get_yscale() == "log"


def test_the_gap_from_a_known_optimum(fits):
    f = fits[str(HALS)]
    (line,) = nmfcore.plot.convergence(f, best=9.0).lines
    np.testing.assert_allclose(line.get_ydata(), f.history.objective - 9.0)


def test_one_fit_needs_no_legend(fits):
    assert nmfcore.plot.convergence(fits[str(MU)]).get_legend() is None


def test_lines_differ_in_colour_and_in_dashes(fits):
    lines = nmfcore.plot.convergence(fits).lines
    assert len({to_hex(line.get_color()) for line in lines}) == len({line.get_linestyle() for line in lines}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": "loss"}, "y='loss' must be one of 'gap', 'objective', 'kkt'"),
        ({"x": "time"}, "x='time' must be one of 'iteration', 'seconds'"),
    ],
)
def test_convergence_names_what_it_can_draw(fits, arguments, message):
    with pytest.raises(ValueError, match=message):
        nmfcore.plot.convergence(fits, **arguments)


def test_convergence_of_nothing():
    with pytest.raises(ValueError, match="no fit"):
        nmfcore.plot.convergence({})


def test_heatmap_shows_values_names_and_marks():
    ax = nmfcore.plot.heatmap(
        X, rows=list("abcde"), columns=list("wxyz"), mark=X == 0, title="ratings", fmt="{:.0f}", vmax=10
    )
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), X)
    assert image.get_clim() == (0, 10)
    assert texts(ax) == [f"{x:.0f}" for x in X.ravel()]
    assert [label.get_text() for label in ax.get_yticklabels()] == list("abcde")
    assert [label.get_text() for label in ax.get_xticklabels()] == list("wxyz")
    assert ax.get_title() == "ratings"
    centres = [(round(p.get_y() + p.get_height() / 2), round(p.get_x() + p.get_width() / 2)) for p in ax.patches]
    assert centres == [tuple(place) for place in np.argwhere(X == 0)]


def test_numbers_stay_legible_on_dark_tiles():
    colours = [text.get_color() for text in nmfcore.plot.heatmap([[0.0, 1.0]]).texts]
    assert colours == ["black", "white"]


def test_a_missing_entry_is_blank():
    ax = nmfcore.plot.heatmap([[1.0, np.nan]])
    assert texts(ax) == ["1.00"]
    assert ax.images[0].get_array().mask.tolist() == [[False, True]]


@pytest.mark.parametrize("A", [np.zeros((2, 2)), np.full((1, 2), np.nan)])
def test_nothing_to_see_is_drawn_without_a_warning(A):
    nmfcore.plot.heatmap(A).figure.canvas.draw()


def test_heatmap_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="A has 1 dimensions"):
        nmfcore.plot.heatmap([1.0, 2.0])
    with pytest.raises(ValueError, match="rows has 1 names for 5 rows"):
        nmfcore.plot.heatmap(X, rows=["a"])
    with pytest.raises(ValueError, match=r"mark is \(1, 4\), but A is \(5, 4\)"):
        nmfcore.plot.heatmap(X, mark=[[True] * 4])


def test_factors_draws_the_product_as_it_is_read(fits):
    f = fits[str(HALS)]
    figure = nmfcore.plot.factors(f, rows=list("abcde"), components=["p", "q"], mark=X == 0)
    above, left, product = figure.axes
    for ax, A in ((above, f.H), (left, f.W), (product, f.reconstruct())):
        np.testing.assert_array_equal(ax.images[0].get_array(), A)
    assert [label.get_text() for label in left.get_yticklabels()] == list("abcde")
    assert [label.get_text() for label in above.get_yticklabels()] == ["p", "q"]
    assert len(product.patches) == 7
    figure.canvas.draw()
    boxes = [ax.get_position() for ax in (above, left, product)]
    np.testing.assert_allclose([boxes[0].x0, boxes[0].x1], [boxes[2].x0, boxes[2].x1], atol=1e-6)  # H above W H
    np.testing.assert_allclose([boxes[1].y0, boxes[1].y1], [boxes[2].y0, boxes[2].y1], atol=1e-6)  # W left of it


def test_factors_takes_a_pair_and_a_figure():
    figure = plt.figure()
    assert nmfcore.plot.factors((np.ones((3, 1)), np.ones((1, 2))), figure=figure) is figure


def test_given_axes_are_drawn_on_and_settings_stay(fits):
    before = dict(matplotlib.rcParams)
    _, ax = plt.subplots()
    assert nmfcore.plot.convergence(fits, ax=ax) is ax
    assert nmfcore.plot.heatmap(X, ax=ax.inset_axes((0.5, 0.5, 0.5, 0.5))).figure is ax.figure
    assert plt.get_fignums() == [1]
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "draw",
    [
        lambda f: nmfcore.plot.convergence(f),
        lambda f: nmfcore.plot.heatmap(f.W),
        lambda f: nmfcore.plot.factors(f),
    ],
    ids=["convergence", "heatmap", "factors"],
)
def test_without_matplotlib_there_is_a_remedy(monkeypatch, fits, draw):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "nmfcore\[plot\]"'):
        draw(fits[str(HALS)])


def test_the_module_loads_without_matplotlib():
    code = "import sys, nmfcore; nmfcore.plot.convergence; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
