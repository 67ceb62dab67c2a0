r"""Ratings in, recommendations out: masked NMF that shrinks towards the means instead of towards zero.

The model is ``r̂_ui = w_u · h_i`` with non-negative factors, fitted to the ratings that are there. Two things keep
it honest where a user or an item has few of them.

**A penalty for each rating.** ``½ l2 (Σ_u n_u ‖w_u‖² + Σ_i n_i ‖h_i‖²)``, n being how much was observed (ALS-WR,
Zhou et al. 2008), so that one setting suits the busy and the quiet. It is a plain ``l2`` in other units: with
``d_u = n_u / c`` and ``e_i = n_i / c``, the factors ``W' = √d W`` and ``H' = H √e`` have the objective

.. math:: ½ Σ \frac{ω_{ui}}{d_u e_i} (\sqrt{d_u e_i}\, r_{ui} - w'_u · h'_i)² + ½ c\, l_2 (‖W'‖² + ‖H'‖²),

term by term the same number. So the engine's weights do it, exactly.

**An average user and an average item.** A penalty alone pulls what is little known towards a rating of 0, which
nobody means. Therefore each item is also rated by an average user, and each user also rates an average item,
at the damped means ``μ + c_i`` and ``μ + b_u`` of :class:`UserItemMeans` and with the weight of ``prior`` ratings.
What is little known then goes to those means. Both are left out of the model once it is fitted.

References
----------
Zhou, Wilkinson, Schreiber and Pan, Large-scale parallel collaborative filtering for the Netflix Prize, AAIM 2008.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmfcore import archive, result
from nmfcore.ratings import explaining, ranking
from nmfcore.ratings.baselines import UserItemMeans
from nmfcore.ratings.explaining import Explanation, SimilarItems
from nmfcore.ratings.ranking import Recommendations
from nmfcore.ratings.ratings import Ratings
from nmfcore.result import Factorization

L2_PER_MEAN = 0.025  # of the mean rating; the best on validation parts of three sets, see Recommender
SETTINGS = ("rank", "l2", "prior", "tol", "max_iter", "random_state")

MEMBERS = result.MEMBERS | {
    "users": archive.Member(1, "iU"),
    "items": archive.Member(1, "iU"),
    "indptr": archive.Member(1, "i"),
    "indices": archive.Member(1, "i"),
    "ratings": archive.Member(1, "f"),
}


@dataclass(eq=False)
class Recommender:
    """Predict ratings and recommend items.

    Parameters
    ----------
    rank : int
        Number of latent features.
    l2 : float, optional
        Penalty on each rating's two factor rows, in the unit of the ratings. Default: 0.025 times their mean
        (0.09 on a scale of five stars), which scales with them.
    prior : float
        Weight, in ratings, of each user's and each item's mean; more than 0.
    tol, max_iter
        As in :func:`nmfcore.factorize`. The held-out error settles long before the last digit of the factors.
    random_state : int, RandomState, Generator, SeedSequence, optional
        What the start is drawn from; the same int gives the same model.

    Attributes
    ----------
    factorization_ : Factorization
        ``W`` (n_users, rank) and ``H`` (rank, n_items). Its objective, KKT residual and history are those of the
        problem in the head of :mod:`nmfcore.ratings.recommender`, where l2 is scaled by numbers of ratings; its
        ``transform`` knows nothing of that.
    ratings_ : Ratings
        What it was fitted to: ids, and who has seen what.
    rating_range_ : (float, float)
        The smallest and the largest rating in it.

    Notes
    -----
    The defaults were chosen on MovieLens-100K by a validation part inside the training part (a tenth of it, mean of
    three splits, RMSE clipped to 1 to 5, rank 20): user and item means 0.944; plain l2, at its best, 0.967 (0.933
    at rank 5); l2 for each rating 0.918; with the average user and item too, 0.909.

    Examples
    --------
    >>> from nmfcore.datasets import planted_ratings
    >>> model = Recommender(rank=4, random_state=0).fit(planted_ratings(100, 80, 3000))
    >>> model.predict([1, 2], [10, 10]).shape
    (2,)
    >>> items, predicted = model.recommend(1, n=3)
    >>> len(items)
    3
    """

    rank: int = 32
    l2: float | None = None
    prior: float = 20.0
    tol: float = 1e-4
    max_iter: int = 100
    random_state: Any = None
    _model: tuple[Ratings, Factorization] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        from nmfcore import validation  # here and below: it loads numba, which reading ratings does without

        self.rank = validation.whole(self.rank, "rank", 1)
        self.l2 = None if self.l2 is None else validation.non_negative(self.l2, "l2")
        self.prior = validation.non_negative(self.prior, "prior")
        if self.prior == 0.0:
            raise ValueError("prior=0 leaves a user without ratings nothing to go by; give a small number instead.")
        self.tol = validation.non_negative(self.tol, "tol")
        self.max_iter = validation.whole(self.max_iter, "max_iter", 0)

    @property
    def ratings_(self) -> Ratings:
        """What the model was fitted to."""
        return self._fitted()[0]

    @property
    def factorization_(self) -> Factorization:
        """The factors and their certificate."""
        return self._fitted()[1]

    @property
    def rating_range_(self) -> tuple[float, float]:
        """The smallest and the largest rating seen."""
        data = self.ratings_.data
        return float(data.min()), float(data.max())

    def _fitted(self) -> tuple[Ratings, Factorization]:
        if self._model is None:
            raise RuntimeError("this Recommender is not fitted: call fit(ratings), or use Recommender.load(path).")
        return self._model

    def fit(self, ratings: Ratings, *, callback: Callable[[Any], object] | None = None, progress: bool = False) -> Self:
        """Fit to ratings. A user or an item without any gets what the average user or item would.

        Parameters
        ----------
        ratings : Ratings
            What is observed; a stored 0 is a rating.
        callback, progress
            As in :func:`nmfcore.factorize`.

        Returns
        -------
        Recommender
            This one.

        Raises
        ------
        TypeError, ValueError
            If an argument breaks a rule; a model fitted before stays as it was.
        KeyboardInterrupt
            On Ctrl-C; its note says whether the last complete estimate was kept as the model.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` ended the fit.
        """
        from nmfcore import factorize

        self._check()
        if not isinstance(ratings, Ratings):
            raise TypeError(
                f"fit needs nmfcore.Ratings, not {type(ratings).__name__}: see Ratings.from_triplets and from_csv."
            )
        problem = _pose(ratings, self.prior)
        l2 = L2_PER_MEAN * ratings.mean() if self.l2 is None else self.l2
        if not np.isfinite(l2 * problem.unit):
            raise ValueError(f"l2={l2:g} for each rating is too large a penalty: it overflows.")
        try:
            f = factorize(
                problem.X,
                self.rank,
                missing_values="unstored",
                weights=problem.weights,
                l2=l2 * problem.unit,
                tol=self.tol,
                max_iter=self.max_iter,
                random_state=self.random_state,
                callback=callback,
                progress=progress,
            )
        except KeyboardInterrupt as interrupt:
            self._keep(ratings, problem, interrupt)
            raise
        self._model = ratings, problem.answer(f)
        return self

    def _keep(self, ratings: Ratings, problem: _Problem, interrupt: KeyboardInterrupt) -> None:
        """Make the last complete estimate of an interrupted fit the model, if there is one."""
        f: Factorization | None = getattr(interrupt, "factorization", None)
        if f is not None and f.n_iter > 0:
            self._model = ratings, problem.answer(f)
            interrupt.factorization = self._model[1]  # type: ignore[attr-defined]
            interrupt.add_note(f"The fit was interrupted; the model is that of iteration {f.n_iter}.")
        elif self._model is not None:
            interrupt.add_note("The fit was interrupted before its first iteration; the model is the one before it.")
        else:
            interrupt.add_note("The fit was interrupted before its first iteration; there is no model.")

    def predict(self, users: ArrayLike, items: ArrayLike, clip: bool = False) -> Any:
        """Predicted ratings.

        Parameters
        ----------
        users, items : id or array-like of ids, shape (k,)
            Ids as in the ratings; one of them may be a single id.
        clip : bool
            Bring predictions into the range of the ratings seen.

        Returns
        -------
        float, or ndarray of float64, shape (k,)

        Raises
        ------
        KeyError
            If an id is not known; the message names it.
        """
        ratings, f = self._fitted()
        predicted = f.predict(ratings.user_index(users), ratings.item_index(items))
        return (np.clip(predicted, *self.rating_range_) if clip else predicted)[()]

    @overload
    def recommend(
        self, users: int | str, n: int = 10, exclude_seen: bool = True, items: ArrayLike | None = None
    ) -> Recommendations: ...

    @overload
    def recommend(
        self, users: ArrayLike | None = None, n: int = 10, exclude_seen: bool = True, items: ArrayLike | None = None
    ) -> Any: ...

    def recommend(
        self, users: ArrayLike | None = None, n: int = 10, exclude_seen: bool = True, items: ArrayLike | None = None
    ) -> Any:
        """The items with the highest predicted ratings.

        Memory is taken for the answer and a block of it, never for users x items.

        Parameters
        ----------
        users : id, or array-like of ids, shape (k,), optional
            Who it is for; everybody if not given.
        n : int
            How many for each; fewer come back if fewer are left.
        exclude_seen : bool
            Leave out what the user has rated.
        items : array-like of ids, optional
            Recommend only these; one that is given twice counts once.

        Returns
        -------
        Recommendations
            For one id: ``items, ratings``, best first; equal predictions in the order of the items.
        RecommendationTable or pandas.DataFrame
            For others: the columns ``users, items, ratings, ranks``, in the order of the users given. Where pandas has
            been imported, a DataFrame with the columns user, item, rating.

        Raises
        ------
        KeyError
            If a user or an item is not known; the message names it.
        ValueError
            If n is less than 1.

        Examples
        --------
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> found = model.recommend([3, 4], n=2, items=[1, 2, 3, 5, 8, 13])
        >>> len(found)
        4
        """
        ratings, f = self._fitted()
        return ranking.recommend(ratings, f.W, f.H, users, n, exclude_seen, items)

    def similar_items(self, item: int | str, n: int = 10) -> SimilarItems:
        """The items whose features point in the most similar direction.

        Similarity is the cosine of the items' columns of H, offsets left out: two items are alike if the same users
        like them, however much they are liked in all. It is never negative. Items that share no feature with this one
        are not similar and do not come back; nor does anything if the item has no feature at all.

        Parameters
        ----------
        item : id
            Which; it is not among the answers.
        n : int
            How many; fewer come back if fewer are similar.

        Returns
        -------
        SimilarItems
            ``items, similarities``, most similar first; equal ones in the order of the items.

        Raises
        ------
        KeyError
            If the item is not known.
        ValueError
            If n is less than 1.

        Examples
        --------
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> items, similarities = model.similar_items(5, n=3)
        >>> len(items), 5 in items
        (3, False)
        """
        ratings, f = self._fitted()
        return explaining.similar_items(ratings, f.H, self.rank, item, n)

    def explain(self, user: int | str, item: int | str, n: int = 5) -> Explanation:
        """The parts that add up to a predicted rating, and the user's own ratings behind them.

        Parameters
        ----------
        user, item : id
            Whose rating of what; it may be one that is known.
        n : int
            How many of the user's ratings to list, those with the largest contributions; the others are added up.

        Returns
        -------
        Explanation
            `print` shows it. How ratings contribute: :mod:`nmfcore.ratings.explaining`.

        Raises
        ------
        KeyError
            If the user or the item is not known.
        ValueError
            If n is less than 1.

        Examples
        --------
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> why = model.explain(3, 5)
        >>> bool(abs(why.score - model.predict(3, 5)) < 1e-12)
        True
        """
        ratings, f = self._fitted()
        l2 = L2_PER_MEAN * ratings.mean() if self.l2 is None else self.l2
        return explaining.explain(ratings, f.W, f.H, self.rank, user, item, n, l2=l2, prior=self.prior)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and its ratings to a ``.npz`` file, at once or not at all; no pickle.

        Parameters
        ----------
        path : path
            Used as given.
        """
        ratings, f = self._fitted()
        arrays, meta = result.pack(f)
        arrays |= {"users": ratings.users, "items": ratings.items, "indptr": ratings.indptr}
        arrays |= {"indices": ratings.indices, "ratings": ratings.data}
        settings = {name: getattr(self, name) for name in SETTINGS}
        seed = self.random_state  # a generator has moved on, and cannot be written
        settings["random_state"] = int(seed) if isinstance(seed, (int, np.integer)) else None
        archive.write(path, arrays, {"kind": "recommender", "recommender": settings, **meta})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, max_bytes: int = 8 * 2**30) -> Self:
        """Read what `save` wrote; the file is not trusted.

        Parameters
        ----------
        path : path
            A ``.npz`` file.
        max_bytes : int
            Refuse a file whose arrays would take more.

        Raises
        ------
        ValueError
            If it is no model of ratings, is damaged, or was written by a newer nmfcore; the message has the path.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> import os, tempfile
        >>> from nmfcore.datasets import planted_ratings
        >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> model.save(path)
        >>> Recommender.load(path).predict(3, 4) == model.predict(3, 4)
        np.True_
        """
        arrays, meta = archive.read(path, MEMBERS, max_bytes=max_bytes)
        if meta.get("kind") != "recommender":
            raise ValueError(f"{os.fspath(path)}: not a model of ratings but {meta.get('kind')!r}.")
        f = result.unpack(path, arrays, meta)
        try:
            ratings = Ratings(*(arrays[name] for name in ("users", "items", "indptr", "indices", "ratings")))
            model = cls(**meta["recommender"])
            if (f.W.shape[0], f.H.shape[1]) != ratings.shape or f.rank != model.rank:
                raise ValueError(f"W {f.W.shape} and H {f.H.shape} for ratings of {ratings.shape}, rank {model.rank}")
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{os.fspath(path)}: damaged nmfcore model: {error}. Save the model again.") from error
        model._model = ratings, f
        return model


@dataclass(frozen=True, slots=True)
class _Problem:
    """What the engine is given: ratings and weights in the units of the head of this file."""

    X: Ratings
    weights: Ratings
    unit: float
    root_d: NDArray[np.float64]
    root_e: NDArray[np.float64]

    def answer(self, f: Factorization) -> Factorization:
        """The factors in the unit of the ratings, without the average user and item."""
        W = f.W[:-1] / self.root_d[:-1, None]
        H = f.H[:, :-1] / self.root_e[:-1]
        return dataclasses.replace(f, W=W, H=H)


def _pose(ratings: Ratings, prior: float) -> _Problem:
    """Add the average user (last row) and the average item (last column), and change units."""
    (m, n), means = ratings.shape, UserItemMeans.fit(ratings)
    ends = ratings.indptr[1:]
    low, high = ratings.data.min(), ratings.data.max()
    of_users, of_items = (np.clip(means.mean + b, low, high) for b in (means.user_offsets, means.item_offsets))
    indptr = np.append(ratings.indptr + np.arange(m + 1), ratings.nnz + m + n)
    rows = np.repeat(np.arange(m + 1), np.diff(indptr))
    columns = np.append(np.insert(ratings.indices, ends, n), np.arange(n))
    values = np.append(np.insert(ratings.data, ends, of_users), of_items)
    weights = np.append(np.insert(np.ones(ratings.nnz), ends, prior), np.full(n, prior))

    per_user, per_item = np.bincount(rows, weights, m + 1), np.bincount(columns, weights, n + 1)
    unit = float(np.sqrt(per_user.mean() * per_item.mean()))
    root_d, root_e = np.sqrt(per_user / unit), np.sqrt(per_item / unit)
    root = root_d[rows] * root_e[columns]

    def matrix(entries: NDArray[np.float64]) -> Ratings:
        return Ratings(np.arange(m + 1), np.arange(n + 1), indptr, columns, entries)

    return _Problem(matrix(values * root), matrix(weights / root**2), unit, root_d, root_e)
