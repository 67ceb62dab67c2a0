"""Pictures of a fit: how it converged, what the factors are, and how many of them held-out entries speak for.

Every function draws on the Axes it is given or makes a figure of its own, returns what it drew on, shows nothing by
itself and leaves matplotlib's settings alone. matplotlib is imported when the first picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from nmfcore._types import Array
from nmfcore.api.result import Factorization

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["convergence", "factors", "heatmap", "rank_selection"]


class Selection(Protocol):
    """What of a :class:`nmfcore.RankSelection` is drawn."""

    @property
    def ranks(self) -> Array:
        """The ranks tried."""

    @property
    def errors(self) -> Array:
        """Held-out errors, ranks by folds."""

    @property
    def train_errors(self) -> Array:
        """Errors on what was fitted, ranks by folds."""

    @property
    def rule(self) -> str:
        """By which rule the rank was chosen."""

    @property
    def mean(self) -> Array:
        """Of each rank, over folds."""

    @property
    def standard_error(self) -> Array:
        """Of these means."""

    @property
    def allowance(self) -> Array:
        """How far above the lowest mean a rank may be."""

    @property
    def best(self) -> int:
        """The rank chosen."""

    @property
    def measure(self) -> str:
        """What an error is."""


# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")

_LABELS = {
    "objective": "objective",
    "gap": "objective − lowest objective",
    "kkt": "KKT residual",
    "iteration": "iteration",
    "seconds": "seconds",
}


def convergence(
    fits: Factorization | Mapping[str, Factorization],
    *,
    y: str = "gap",
    x: str = "iteration",
    best: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how fits converged, one line each.

    Parameters
    ----------
    fits : Factorization or mapping of str to Factorization
        One fit, or several with their names for the legend.
    y : {"gap", "objective", "kkt"}
        The objective above ``best``, the objective itself, or the KKT residual. The gap and the residual are drawn
        on a logarithmic scale, and their zeros are left out.
    x : {"iteration", "seconds"}
    best : float, optional
        What the gap is measured from. Default: the lowest objective that any of the fits reached.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If ``y`` or ``x`` is something else, or there is no fit.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import nmfcore
    >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0)
    >>> ax = nmfcore.plot.convergence({"HALS": f}, y="kkt")
    >>> ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()
    ('iteration', 'KKT residual', 'log')
    """
    _one_of(y, "y", ("gap", "objective", "kkt"))
    _one_of(x, "x", ("iteration", "seconds"))
    named = dict(fits) if isinstance(fits, Mapping) else {"": fits}
    if not named:
        raise ValueError("convergence: there is no fit to draw; pass a Factorization or a dict of them.")
    ax = ax if ax is not None else _pyplot().subplots()[1]
    lowest = min(float(f.history.objective.min()) for f in named.values()) if best is None else best
    for i, (name, f) in enumerate(named.items()):
        values = f.history.objective - lowest if y == "gap" else getattr(f.history, y)
        if y != "objective":
            values = np.where(values > 0, values, np.nan)
        colour, line = COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]
        ax.plot(getattr(f.history, x), values, label=name or None, color=colour, linestyle=line)
    if y != "objective":
        ax.set_yscale("log")
    ax.set(xlabel=_LABELS[x], ylabel=_LABELS[y])
    if any(named):
        ax.legend()
    return ax


def heatmap(
    A: ArrayLike,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    mark: ArrayLike | None = None,
    title: str = "",
    vmin: float = 0.0,
    vmax: float | None = None,
    fmt: str = "{:.2f}",
    ax: Axes | None = None,
) -> Axes:
    """Draw a small non-negative matrix: every entry a tile, its number on it.

    Parameters
    ----------
    A : array_like (m, n)
        A NaN is left blank.
    rows, columns : sequence of str, optional
        Names of the rows and the columns; their numbers by default.
    mark : array_like of bool (m, n), optional
        Entries to put a frame around, say those that were predicted.
    title : str
    vmin, vmax : float, optional
        The values of the lightest and the darkest tile: 0 and the largest entry. Give panels that are to be
        compared the same.
    fmt : str
        How a number is written; ``""`` for none.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If ``A`` is not a matrix, or the names or ``mark`` do not fit it.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import nmfcore
    >>> ax = nmfcore.plot.heatmap([[5, 3], [4, 0]], mark=[[False, False], [False, True]], fmt="{:.0f}")
    >>> [text.get_text() for text in ax.texts], len(ax.patches)
    (['5', '3', '4', '0'], 1)
    """
    values = np.asarray(A, float)
    if values.ndim != 2:
        raise ValueError(f"heatmap: A has {values.ndim} dimensions; it must be a matrix.")
    rows, columns = _names(rows, values.shape[0], "rows"), _names(columns, values.shape[1], "columns")
    marked = np.zeros(values.shape, bool) if mark is None else np.asarray(mark, bool)
    if marked.shape != values.shape:
        raise ValueError(f"heatmap: mark is {marked.shape}, but A is {values.shape}.")
    ax = ax if ax is not None else _pyplot().subplots()[1]
    top = _largest(values) if vmax is None else vmax
    ax.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=vmin, vmax=max(top, vmin + 1e-300), aspect="equal")
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.set_title(title)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for (i, j), value in np.ndenumerate(values):
        if fmt and np.isfinite(value):
            dark = value - vmin > 0.6 * (top - vmin)
            ax.text(j, i, fmt.format(value), ha="center", va="center", color="white" if dark else "black")
        if marked[i, j]:
            ax.add_patch(_frame(i, j))
    return ax


def factors(
    f: Factorization | tuple[ArrayLike, ArrayLike],
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    components: Sequence[str] | None = None,
    mark: ArrayLike | None = None,
    fmt: str = "{:.2f}",
    figure: Figure | None = None,
) -> Figure:
    """Draw W, H and W H as the product is read: each entry of W H from the row left of it and the column above it.

    Parameters
    ----------
    f : Factorization or pair of array_like
        With W (m, r) and H (r, n).
    rows, columns, components : sequence of str, optional
        Names for the rows of W, the columns of H, and what lies between.
    mark : array_like of bool (m, n), optional
        Entries of W H to put a frame around.
    fmt : str
        How a number is written; ``""`` for none.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw; a new one by default.

    Returns
    -------
    matplotlib Figure
        Its ``axes`` are those of H, W and W H.

    Raises
    ------
    ValueError
        If the names or ``mark`` do not fit.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import nmfcore
    >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0)
    >>> figure = nmfcore.plot.factors(f, rows=["Ann", "Bob"])
    >>> [ax.get_title() for ax in figure.axes]
    ['H', 'W', 'W H']
    """
    W, H = (np.asarray(A, float) for A in f)
    (m, r), n = W.shape, H.shape[1]
    rows, columns = _names(rows, m, "rows"), _names(columns, n, "columns")
    components = _names(components, r, "components")
    if figure is None:
        size = (0.62 * (r + n) + 2.0, 0.5 * (r + m) + 1.4)
        figure = _pyplot().figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(r, n), height_ratios=(r, m))
    above, left, product = (figure.add_subplot(grid[place]) for place in ((0, 1), (1, 0), (1, 1)))
    heatmap(H, rows=components, columns=columns, title="H", fmt=fmt, ax=above)
    heatmap(W, rows=rows, columns=components, title="W", fmt=fmt, ax=left)
    heatmap(W @ H, rows=[""] * m, columns=columns, title="W H", fmt=fmt, mark=mark, ax=product)
    return figure


def rank_selection(selection: Selection, *, ax: Axes | None = None) -> Axes:
    """Draw the errors of every rank that was tried: held out, with their standard errors, and on the entries fitted.

    The rank chosen is marked. A dotted line shows how high an error the rule lets through; a faint dot is a fold. Ranks
    that double are drawn on a logarithmic axis, and so are errors that fall to less than a twentieth.

    Parameters
    ----------
    selection : RankSelection
        What :func:`nmfcore.select_rank` returns.
    ax : matplotlib Axes, optional
        Where to draw; a new figure's by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import nmfcore
    >>> X = [[i + j % 3 + 1 for j in range(9)] for i in range(8)]
    >>> ax = nmfcore.plot.rank_selection(nmfcore.select_rank(X, [1, 2, 3], random_state=0))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('rank', 'mean squared error per entry')
    """
    ax = ax if ax is not None else _pyplot().subplots()[1]
    s, ranks = selection, selection.ranks
    folds = np.broadcast_to(ranks[:, None], s.errors.shape)
    ax.plot(folds, s.errors, ".", color=COLOURS[0], alpha=0.25, zorder=1)
    bars: dict[str, Any] = {"color": COLOURS[0], "capsize": 3, "marker": "o", "markersize": 4, "zorder": 3}
    held_out = ax.errorbar(ranks, s.mean, yerr=s.standard_error, label="held out ± std. error", **bars)
    training = s.train_errors.mean(axis=1)
    squares: dict[str, Any] = {"color": COLOURS[1], "linestyle": "--", "marker": "s", "markersize": 3, "zorder": 2}
    (fitted,) = ax.plot(ranks, training, label="fitted", **squares)
    shared, within = (s.allowance[0], "lowest + std. error") if s.rule == "one-standard-error" else (0.0, "lowest")
    limit = ax.axhline(s.mean.min() + shared, color="0.4", linestyle=":", linewidth=1, label=within, zorder=0)
    place = s.best, s.mean[ranks == s.best][0]
    ring: dict[str, Any] = {"s": 140, "facecolors": "none", "edgecolors": COLOURS[6], "linewidths": 1.5, "zorder": 4}
    chosen = ax.scatter(*place, label=f"chosen: {s.best}", **ring)
    _rank_axis(ax, ranks)
    lowest = min(float(s.errors.min()), float(training.min()))
    if 0 < lowest < 0.05 * s.errors.max():
        ax.set_yscale("log")
    ax.set(xlabel="rank", ylabel=f"{s.measure} per entry")
    ax.legend(handles=[held_out, fitted, chosen, limit])
    return ax


def _rank_axis(ax: Axes, ranks: Array) -> None:
    """Ticks at ranks that were tried, a dozen at most; logarithmic where their distances grow with them."""
    if len(ranks) > 2 and ranks[-1] - ranks[-2] >= 3 * (ranks[1] - ranks[0]):
        ax.set_xscale("log", base=2)
    shown = ranks[:: -(-len(ranks) // 12)]
    ax.set_xticks(shown, [str(rank) for rank in shown])
    ax.set_xticks([], minor=True)


def _frame(i: int, j: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=2)


def _largest(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def _names(names: Sequence[str] | None, size: int, what: str) -> list[str]:
    if names is None:
        return [str(i) for i in range(size)]
    if len(names) != size:
        raise ValueError(f"{what} has {len(names)} names for {size} {what}.")
    return [str(name) for name in names]


def _one_of(value: str, name: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}.")


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise ImportError('nmfcore.plot needs matplotlib: pip install "nmfcore[plot]"') from error
    return matplotlib.pyplot
