r"""Ratings in, recommendations out: masked NMF that shrinks towards the means instead of towards zero.

The model is ``r̂_ui = w_u · h_i + b_u + c_i``, all of it non-negative (without offsets ``w_u · h_i`` alone), fitted to
the ratings that are there. Two things keep it honest where a user or an item has few of them.

**A penalty for each rating**: ``½ l2 (Σ_u n_u ‖w_u‖² + Σ_i n_i ‖h_i‖²)``, n being how much was observed (ALS-WR), so
that one setting suits the busy and the quiet; the engine's ``l2_scaling="count"``.

**An average user and an average item**, who give and are given the damped means with the weight of ``prior`` ratings:
:mod:`nmfcore.recommender.posing`.

How it is given to the engine is in :mod:`nmfcore.recommender.fitting`, what a fit leaves in
:mod:`nmfcore.recommender.model`, and the file of it in :mod:`nmfcore.recommender.saving`.

References
----------
Zhou, Wilkinson, Schreiber and Pan, Large-scale parallel collaborative filtering for the Netflix Prize, AAIM 2008.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike

from nmfcore.api.result import Factorization
from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender import explaining, fitting, ranking, saving, unknown_ids
from nmfcore.recommender.explaining import Explanation, SimilarItems
from nmfcore.recommender.fitting import LEAST_PRIOR, MOST_PRIOR
from nmfcore.recommender.level import warn_of_values
from nmfcore.recommender.model import Model
from nmfcore.recommender.ranking import Recommendations
from nmfcore.recommender.unknown_ids import Unknown


@dataclass(eq=False)
class Recommender:
    """Predict ratings and recommend items.

    Settings may be changed; what is changed after a fit is for the next one, and the model stays as it was fitted.

    Parameters
    ----------
    rank : int
        Number of latent features.
    l2 : float, optional
        Penalty on each rating's two factor rows, in the unit of the ratings. Default: 0.0185 times their mean
        (0.066 on a scale of five stars), which scales with them.
    prior : float, optional
        Weight, in ratings, of each user's and each item's mean; more than 0. Default: ``120 / (1 + d / 30)`` with
        d = n_ratings / (n_users + n_items): about 30 where users and items have many ratings, and more where they
        have few, so that features do not learn noise.
    offsets : bool
        Whether users and items have offsets, b and c, besides their features.
    tol, max_iter
        As in :func:`nmfcore.factorize`, but 0.0125 and 300 by default: the held-out error settles long before the last
        digit of the factors.
    random_state : int, RandomState, Generator, SeedSequence, optional
        What the start is drawn from; the same int gives the same model.

    Attributes
    ----------
    factorization_ : Factorization
        ``W`` (n_users, r) and ``H`` (r, n_items), with r = rank, or rank + 2 with offsets: ``W[:, rank]`` are those of
        the users and ``H[rank + 1]`` those of the items, beside components of ones. Its objective, KKT residual and
        history are those of the problem with the average user and item.
    ratings_ : Ratings
        What it was fitted to: ids, and who has seen what.
    rating_range_ : (float, float)
        The smallest and the largest rating in it.
    level_ : float
        What was taken off all ratings before the fit, so that the lowest is at a quarter of their range at most; 0 for
        scales that begin near 0, such as 1 to 5. A prediction is ``level_`` and that of ``factorization_``.

    Notes
    -----
    The defaults were chosen on validation parts inside the training parts (a tenth of them, clipped RMSE): rank 32 with
    ``prior=30, offsets=True`` and l2 of .02 times the mean had .913 on MovieLens-100K, .870 on MovieLens-latest-small,
    1.556 on MovieTweetings and .848 on MovieLens-1M. Half the prior was worse on all of them; on MovieLens-1M l2 of
    .0167 times the mean and no offsets were better by .003, on the small sets l2 of .025 times the mean by up to .002:
    .0185 is between.

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
    prior: float | None = None
    offsets: bool = True
    tol: float = 1.25e-2
    max_iter: int = 300
    random_state: Any = None
    _model: Model | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        from nmfcore import _arguments  # here and below: it loads numba, which reading ratings does without
        from nmfcore._arguments import check_flag

        self.rank = _arguments.whole(self.rank, "rank", 1)
        self.l2 = None if self.l2 is None else _arguments.non_negative(self.l2, "l2")
        self.prior = None if self.prior is None else _arguments.non_negative(self.prior, "prior")
        if self.prior == 0.0:
            raise ValueError("prior=0 leaves a user without ratings nothing to go by; give a small number instead.")
        if self.prior is not None and not LEAST_PRIOR <= self.prior <= MOST_PRIOR:
            raise ValueError(f"prior={self.prior:g} is not between {LEAST_PRIOR:g} and {MOST_PRIOR:g} ratings.")
        check_flag("offsets", self.offsets)
        self.tol = _arguments.non_negative(self.tol, "tol")
        self.max_iter = _arguments.whole(self.max_iter, "max_iter", 0)
        if self.random_state is not None:  # None would ask the system for entropy, and nothing is drawn here
            _arguments.generator(self.random_state)

    @property
    def ratings_(self) -> Ratings:
        """What the model was fitted to."""
        return self._fitted().ratings

    @property
    def factorization_(self) -> Factorization:
        """The factors and their certificate."""
        return self._fitted().f

    @property
    def rating_range_(self) -> tuple[float, float]:
        """The smallest and the largest rating seen."""
        return self._fitted().limits

    @property
    def level_(self) -> float:
        """What was taken off all ratings before the fit; predictions are this and those of ``factorization_``."""
        return self._fitted().level

    def _fitted(self) -> Model:
        if self._model is None:
            raise RuntimeError("this Recommender is not fitted: call fit(ratings), or use Recommender.load(path).")
        return self._model

    def fit(
        self, ratings: Ratings, *, callback: Callable[[Any], object] | None = None, progress: bool | None = None
    ) -> Self:
        """Fit to ratings. A user or an item without any gets what the average user or item would.

        Parameters
        ----------
        ratings : Ratings
            What is observed; a stored 0 is a rating.
        callback
            As in :func:`nmfcore.factorize`.
        progress : bool, optional
            Show a progress bar (needs tqdm). Default: if there are 5 million ratings or more, tqdm is installed, and a
            person is watching.

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
        UserWarning
            If all ratings are equal, or have a long tail, as counts have.
        """
        self._check()
        _check_ratings(ratings, "fit")
        warn_of_values(ratings)
        return self._go(ratings, max_iter=self.max_iter, callback=callback, progress=progress)

    def partial_fit(
        self,
        ratings: Ratings,
        *,
        max_iter: int = 5,
        callback: Callable[[Any], object] | None = None,
        progress: bool | None = None,
    ) -> Self:
        """Take new ratings in and go on from the model there is; new users and items begin as the average ones.

        A rating of what the user had rated before replaces that. Afterwards ``ratings_`` has all ratings. Where the new
        ones make the mean a million times as large or as small, the fit begins anew.

        Parameters
        ----------
        ratings : Ratings
            The new ones, with ids of the same kinds.
        max_iter : int
            Iterations to make at most; no warning is given if they end the fit.
        callback, progress
            As in `fit`.

        Returns
        -------
        Recommender
            This one; fitted to these ratings if it was not fitted before.

        Raises
        ------
        TypeError, ValueError
            If an argument breaks a rule; the model stays as it was.
        KeyboardInterrupt
            As in `fit`.

        Examples
        --------
        >>> from nmfcore import Ratings
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> model = model.partial_fit(Ratings.from_triplets([31, 31], [1, 99], [5, 1]))  # a new user, a new item
        >>> model.ratings_.shape
        (31, 21)
        """
        from nmfcore import _arguments
        from nmfcore.loop.stopping import ConvergenceWarning

        max_iter = _arguments.whole(max_iter, "max_iter", 0)
        _check_ratings(ratings, "partial_fit")
        if self._model is None:
            return self.fit(ratings, callback=callback, progress=progress)
        self._check()
        if (self.rank, bool(self.offsets)) != (self._model.rank, self._model.offsets):
            raise ValueError(f"rank={self.rank} and offsets={self.offsets} are not those of the fit; call fit instead.")
        both = self._model.ratings.merge(ratings)
        start = fitting.start_from(self._model, both)
        level = self._model.level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self._go(both, level, max_iter=max_iter, callback=callback, progress=progress, **start)

    def _go(self, ratings: Ratings, level: float | None = None, **options: Any) -> Self:
        """Fit, and keep what comes of it."""
        task = fitting.Task.of(ratings, self.l2, self.prior, level)
        options |= {"offsets": self.offsets, "tol": self.tol, "random_state": self.random_state}
        whole: Factorization | None = None
        try:
            whole = task.factorize(self.rank, **options)
            self._model = task.model(whole)
        except KeyboardInterrupt as interrupt:
            self._keep(task, getattr(interrupt, "factorization", whole), interrupt)
            raise
        return self

    def _keep(self, task: fitting.Task, f: Factorization | None, interrupt: KeyboardInterrupt) -> None:
        """Make the last complete estimate of an interrupted fit the model, if there is one."""
        if f is not None and f.n_iter > 0:
            self._model = task.model(f)
            interrupt.factorization = self._model.f  # type: ignore[attr-defined]
            interrupt.add_note(f"The fit was interrupted; the model is that of iteration {f.n_iter}.")
        elif self._model is not None:
            interrupt.add_note("The fit was interrupted before its first iteration; the model is the one before it.")
        else:
            interrupt.add_note("The fit was interrupted before its first iteration; there is no model.")

    def fold_in(self, ratings: Ratings | Mapping[Any, float], *, unknown: Unknown = "error") -> Self:
        """The model for other users, by their ratings of items it knows; nothing is refitted.

        Each user's row is the best there is for the items as they are (exact non-negative least squares), whoever else
        is there.

        Parameters
        ----------
        ratings : Ratings, or mapping of item id to rating
            Of any number of users, or of one, whose id will be ``"new"``.
        unknown : {"error", "average", "drop"}
            What to do about ratings of items that the model does not know: raise; take each for one more rating of its
            average item, which says how generous the user is; or leave them out. In ``ratings_`` of the answer they are
            not, since it has the items of this model.

        Returns
        -------
        Recommender
            A model of these users and the same items, to predict, recommend and explain with; this one stays as it is.
            (To learn from them, give their ratings to `partial_fit` of this one: that of the other knows no one else.)

        Raises
        ------
        KeyError
            If an item is not known, the message names it; whatever ``unknown`` is, if items are texts where the
            model's are integers or the other way round.
        TypeError, ValueError
            If a rating is not a finite number of at least 0, or there is none, or none of an item that is known.

        Examples
        --------
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> guest = model.fold_in({3: 5, 7: 1, 8: 4})
        >>> items, predicted = guest.recommend("new", n=3)
        >>> len(items), 3 in items
        (3, False)
        """
        model = self._fitted()
        if isinstance(ratings, Mapping):
            ids, values = list(ratings), list(ratings.values())
            ratings = Ratings.from_triplets(["new"] * len(ids), ids, values)
        if not isinstance(ratings, Ratings):
            raise TypeError(
                f"fold_in needs nmfcore.Ratings or a mapping of item to rating, not {type(ratings).__name__}."
            )
        other = dataclasses.replace(self)
        other._model = fitting.fold_in(model, ratings, unknown)
        return other

    def predict(self, users: ArrayLike, items: ArrayLike, clip: bool = False, *, unknown: Unknown = "error") -> Any:
        """Predicted ratings.

        Parameters
        ----------
        users, items : id or array-like of ids, shape (k,)
            Ids as in the ratings; one of them may be a single id.
        clip : bool
            Bring predictions into the range of the ratings seen.
        unknown : {"error", "average", "drop"}
            What to do about ids that the model does not know: raise; predict for the average user and the average item;
            or make no prediction, which is NaN in its place.

        Returns
        -------
        float, or ndarray of float64, shape (k,)

        Raises
        ------
        KeyError
            If an id is not known, the message names it; whatever ``unknown`` is, if ids are texts where the model's are
            integers or the other way round.
        ValueError
            If there are several users and not as many items.

        Examples
        --------
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> model.predict([3, 31], [5, 5], unknown="drop").round(1)
        array([2.9, nan])
        >>> model.predict([3, 31], [5, 5], unknown="average").round(1)
        array([2.9, 2.9])
        """
        model = self._fitted()
        predicted = unknown_ids.predict(model, users, items, unknown)
        return (np.clip(predicted, *model.limits) if clip else predicted)[()]

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
        MemoryError
            If the answer does not fit the memory.

        Examples
        --------
        >>> from nmfcore.datasets import planted_ratings
        >>> model = Recommender(rank=2, random_state=0).fit(planted_ratings(30, 20, 200))
        >>> found = model.recommend([3, 4], n=2, items=[1, 2, 3, 5, 8, 13])
        >>> len(found)
        4
        """
        model = self._fitted()
        return ranking.recommend(model.ratings, model.f.W, model.f.H, users, n, exclude_seen, items, model.level)

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
        model = self._fitted()
        return explaining.similar_items(model.ratings, model.f.H, model.rank, item, n)

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
            `print` shows it. How ratings contribute: :mod:`nmfcore.recommender.explaining`.

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
        model = self._fitted()
        factors = model.f.W, model.f.H, model.rank
        return explaining.explain(
            model.ratings, *factors, user, item, n, l2=model.l2, prior=model.prior, level=model.level
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and its ratings to a ``.npz`` file, at once or not at all; no pickle.

        Parameters
        ----------
        path : path
            Used as given. The permissions of an older file are kept.

        Raises
        ------
        TypeError, ValueError
            If a setting was changed to one that breaks a rule: `load` would refuse the file.
        OSError
            If the file cannot be written; an older file is intact.
        """
        model = self._fitted()
        self._check()
        saving.save(path, model, {name: getattr(self, name) for name in saving.SETTINGS})

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
            If it is no model of ratings, is damaged, has a setting that cannot be used, or was written by a newer
            nmfcore; the message has the path, and the setting.
        OSError
            If it cannot be read, or is no regular file.
        MemoryError
            If its arrays do not fit the machine's memory.

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
        recommender, model = saving.load(path, cls, max_bytes)
        recommender._model = model
        return recommender


def _check_ratings(ratings: Any, method: str) -> None:
    if not isinstance(ratings, Ratings):
        raise TypeError(
            f"{method} needs nmfcore.Ratings, not {type(ratings).__name__}: see Ratings.from_frame, from_triplets and "
            "from_csv."
        )
