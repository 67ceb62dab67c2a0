"""Ratings: who rated what, and how; what is not stored is not known."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmfcore.machine import memory
from nmfcore.ratings.assemble import Duplicates, assemble_timed, check_duplicates, check_values, compress, join
from nmfcore.ratings.frames import encode_column, plain_column, select_columns, times_of
from nmfcore.ratings.ids import Ids, find_ids
from nmfcore.ratings.layout import check_columns
from nmfcore.ratings.matrices import Entries, axis_ids, labels, observed_entries, stored_entries
from nmfcore.ratings.merge import insert, keys_among, refuse_known, union_ids
from nmfcore.ratings.reader import read_ratings
from nmfcore.ratings.split import (
    counts_before,
    folds_by_rating,
    folds_by_user,
    held_out_by_rating,
    held_out_by_time,
    held_out_by_user,
)

Seed: TypeAlias = int | np.random.Generator | np.random.SeedSequence | None


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Ratings:
    """Observed ratings with the caller's ids, stored as canonical CSR: users are rows, items are columns.

    A stored 0 is a rating of 0; what is not stored is missing. The arrays are read-only. Make one with
    `from_file`, `from_frame`, `from_triplets`, `from_sparse` or `from_dense`. `nmfcore.factorize` takes it where it
    takes a SciPy sparse matrix: with ``missing_values="unstored"``, for without it what is not stored counts as 0.

    Parameters
    ----------
    users, items : ndarray, shape (n_users,) and (n_items,)
        Distinct ids in ascending order, int64 or str (Python objects where one of them is far longer than the
        others).
    indptr : ndarray of int64, shape (n_users + 1,)
        The ratings of user k are those from ``indptr[k]`` to ``indptr[k + 1]``.
    indices : ndarray of int64, shape (nnz,)
        Item positions, ascending within each user.
    data : ndarray of float64, shape (nnz,)
        The ratings: finite, at least 0.
    times : ndarray of int64, shape (nnz,), optional
        When each was given, in whatever unit; None if that is not known.

    Raises
    ------
    ValueError
        The arrays do not fit together, or a rating is negative or not finite.

    Examples
    --------
    >>> ratings = Ratings.from_triplets(["ann", "bob", "bob"], [10, 10, 20], [5, 3, 0])
    >>> ratings
    Ratings(2 users x 2 items, 3 ratings, density 75%, mean 2.667, range 0 to 5)
    >>> ratings.users, ratings.indptr, ratings.indices, ratings.data
    (array(['ann', 'bob'], dtype='<U3'), array([0, 1, 3]), array([0, 0, 1]), array([5., 3., 0.]))
    """

    users: Ids
    items: Ids
    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    data: NDArray[np.float64]
    times: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        self._freeze("indptr", np.int64)
        self._freeze("indices", np.int64)
        self._freeze("data", np.float64)
        for noun in ("users", "items"):
            ids = np.asarray(getattr(self, noun))
            if ids.dtype.kind not in "iuU" and not (ids.dtype.kind == "O" and all(type(one) is str for one in ids)):
                raise ValueError(f"{noun} have dtype {ids.dtype}; ids are int64 or str")
            self._freeze(noun, np.int64 if ids.dtype.kind in "iu" else ids.dtype)
            self._check_ids(noun)
        self._check_structure()
        check_values(self.data)
        if self.times is not None:
            self._freeze("times", np.int64)
            if self.times.size != self.nnz:
                raise ValueError(f"{self.times.size} times for {self.nnz} ratings; give one for each")

    def _freeze(self, name: str, dtype: Any) -> None:
        array = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
        if array.ndim != 1:
            raise ValueError(f"{name} has {array.ndim} dimensions; it is a 1-D array")
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def _check_ids(self, noun: str) -> None:
        ids = getattr(self, noun)
        bad = np.flatnonzero(ids[1:] <= ids[:-1])
        if bad.size:
            k = int(bad[0])
            raise ValueError(
                f"{noun} are not distinct and ascending: {ids[k]!r} before {ids[k + 1]!r}; see from_triplets"
            )

    def _check_structure(self) -> None:
        indptr, indices, nnz = self.indptr, self.indices, self.data.size
        if nnz == 0:
            raise ValueError("no ratings; give at least one")
        if indices.size != nnz:
            raise ValueError(f"{indices.size} indices for {nnz} ratings; give one item position for each")
        if indptr.size != self.users.size + 1 or indptr[0] != 0 or indptr[-1] != nnz or (np.diff(indptr) < 0).any():
            raise ValueError(f"indptr does not ascend from 0 to {nnz} in {self.users.size + 1} steps")
        if indices.min() < 0 or indices.max() >= self.items.size:
            raise ValueError(f"indices leave the range 0 to {self.items.size - 1}")
        falls = np.flatnonzero(indices[1:] <= indices[:-1]) + 1
        if not np.isin(falls, indptr).all():
            raise ValueError("indices are not ascending and distinct within each user; see from_triplets")

    @classmethod
    def from_triplets(
        cls,
        users: ArrayLike,
        items: ArrayLike,
        ratings: ArrayLike,
        *,
        duplicates: Duplicates = "error",
        time: ArrayLike | None = None,
    ) -> Ratings:
        """Make ratings of three columns of equal length.

        Parameters
        ----------
        users, items : array-like, shape (nnz,)
            Ids: all integers or all strings. Any sequence that NumPy reads will do, a pandas Series too.
        ratings : array-like, shape (nnz,)
            Finite numbers of at least 0.
        duplicates : {"error", "last", "mean"}
            What to do where a user rated an item more than once.
        time : array-like, shape (nnz,), optional
            When each rating was given: integers, or dates, which become seconds since 1970. Kept as `times`.

        Returns
        -------
        Ratings
            With both kinds of ids sorted.

        Raises
        ------
        ValueError
            A column is empty or of another length, an id is missing, a rating is negative or not finite, or
            there are duplicates; the message names the first row (from 0).
        TypeError
            Ids of mixed or other types; ratings that are not numbers.

        Examples
        --------
        >>> Ratings.from_triplets([7, 7], ["a", "a"], [4, 5], duplicates="mean").data
        array([4.5])
        """
        values = check_values(plain_column(ratings, "rating"))
        user_ids, item_ids = _sized(users), _sized(items)
        sizes = [len(column) for column in (user_ids, item_ids, values)]
        if len(set(sizes)) > 1:
            raise ValueError(f"{sizes[0]} users, {sizes[1]} items, {sizes[2]} ratings; the columns are of equal length")
        if not sizes[0]:
            raise ValueError("no ratings; give at least one")
        row_ids, rows = encode_column(user_ids, "user")
        column_ids, columns = encode_column(item_ids, "item")
        key = join(rows, columns, column_ids.size)
        del rows, columns  # at a hundred million ratings every array counts
        times = None if time is None else times_of(time)
        if times is not None and times.size != sizes[0]:
            raise ValueError(f"{times.size} times for {sizes[0]} ratings; give one for each")
        return cls(row_ids, column_ids, *assemble_timed(row_ids, column_ids, key, values, times, duplicates))

    @classmethod
    def from_frame(
        cls,
        df: Any,
        *,
        user: Any = None,
        item: Any = None,
        rating: Any = None,
        duplicates: Duplicates = "error",
        time: Any = None,
    ) -> Ratings:
        """Make ratings of a long table, one rating a row; further columns are ignored.

        Parameters
        ----------
        df : pandas or polars DataFrame, Arrow table, structured array, or mapping of names to columns
            Columns may be categorical (dictionary-encoded) or of a nullable type without nulls. None of these
            libraries is needed.
        user, item, rating : column names, optional
            If not given, columns are found by their usual names, as in `from_file`: userId, item_id, stars and
            their like.
        duplicates : {"error", "last", "mean"}
            What to do where a user rated an item more than once.
        time : column name, optional
            The column that says when each rating was given. Kept as `times`.

        Returns
        -------
        Ratings
            With both kinds of ids sorted.

        Raises
        ------
        ValueError
            A column is not there, and the message lists those that are; further, as in `from_triplets`, with
            the row counted from 0 whatever index the table has.
        TypeError
            `df` is not such a table; ids of mixed or other types; ratings that are not numbers.

        Examples
        --------
        >>> table = {"userId": ["ann", "bob"], "movieId": [10, 10], "stars": [5, 3], "seen": [2019, 2024]}
        >>> Ratings.from_frame(table)
        Ratings(2 users x 1 item, 2 ratings, density 100%, mean 4, range 3 to 5)
        >>> Ratings.from_frame(table, item="seen").items
        array([2019, 2024])
        """
        *columns, when = select_columns(df, (user, item, rating), time)
        return cls.from_triplets(*columns, duplicates=duplicates, time=when)

    @classmethod
    def from_sparse(
        cls, X: Any, users: ArrayLike | None = None, items: ArrayLike | None = None, *, duplicates: Duplicates = "error"
    ) -> Ratings:
        """Make ratings of a SciPy sparse matrix: what is stored is a rating, a stored 0 too.

        Parameters
        ----------
        X : SciPy sparse matrix or array, shape (n_users, n_items)
            Of any format. (A BSR matrix stores its blocks with all their zeros; a DIA matrix gives its zeros
            away when SciPy converts it.)
        users, items : array-like, shape (n_users,) and (n_items,), optional
            Distinct ids of the rows and of the columns, in any order; by default 0, 1, 2, ...
        duplicates : {"error", "last", "mean"}
            What to do where an entry is stored more than once.

        Returns
        -------
        Ratings
            With both kinds of ids sorted, also of rows and columns without a rating.

        Raises
        ------
        ValueError
            Nothing is stored; a rating is negative or not finite, named by row and column; there are
            duplicates; ids are missing, repeated, or not as many as rows or columns.
        TypeError
            `X` is no sparse matrix or holds no real numbers; ids of mixed or other types.
        MemoryError
            Ids and row pointers of a matrix of this shape do not fit the memory.

        Examples
        --------
        >>> from scipy.sparse import coo_array
        >>> X = coo_array(([5.0, 0.0], ([0, 1], [2, 2])), shape=(2, 3))
        >>> Ratings.from_sparse(X, users=["bob", "ann"]).triplets()
        (array([0, 1]), array([2, 2]), array([0., 5.]))
        """
        return cls._from_entries(stored_entries(X), users, items, duplicates)

    @classmethod
    def from_dense(
        cls,
        X: Any,
        missing_values: float = np.nan,
        users: ArrayLike | None = None,
        items: ArrayLike | None = None,
    ) -> Ratings:
        """Make ratings of a dense matrix: what is not missing is a rating.

        Parameters
        ----------
        X : array-like, masked array or DataFrame, shape (n_users, n_items)
            What is masked is missing too.
        missing_values : {nan, 0}
            What stands for "not rated". With NaN, a 0 is a rating.
        users, items : array-like, shape (n_users,) and (n_items,), optional
            Distinct ids of the rows and of the columns, in any order; by default the index and the columns of
            a DataFrame, else 0, 1, 2, ...

        Returns
        -------
        Ratings
            With both kinds of ids sorted, also of rows and columns without a rating.

        Raises
        ------
        ValueError
            All is missing; a rating is negative or not finite, named by row and column; ids are missing,
            repeated, or not as many as rows or columns.
        TypeError
            `X` is sparse or holds no real numbers; ids of mixed or other types.

        Examples
        --------
        >>> Ratings.from_dense([[5, 0], [0, 3]], missing_values=0, items=["b", "a"]).triplets()
        (array([0, 1]), array([1, 0]), array([5., 3.]))
        """
        entries = observed_entries(X, missing_values)
        return cls._from_entries(entries, *labels(X, users, items), "error")

    @classmethod
    def _from_entries(cls, entries: Entries, users: Any, items: Any, duplicates: Duplicates) -> Ratings:
        rows, columns, values, (m, n) = entries
        taken = {"ids": 8 * (m + n), "row pointers": 16 * (m + 1)}
        memory.check(taken, f"ratings of shape ({m}, {n})", "leave out users and items without ratings")
        row_ids, places = axis_ids(users, m, "user")
        rows = rows if places is None else places[rows]
        column_ids, places = axis_ids(items, n, "item")
        columns = columns if places is None else places[columns]
        key = join(rows, columns, n)
        return cls(row_ids, column_ids, *assemble_timed(row_ids, column_ids, key, values, None, duplicates))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        columns: str | Sequence[str | int] | None = None,
        sep: str | None = None,
        not_rated: float | Sequence[float] | None = None,
        time: str | int | None = None,
        duplicates: Duplicates = "error",
    ) -> Ratings:
        r"""Read a file, one rating a row: CSV and its kin, JSON lines, Parquet, MatrixMarket; gzip or zstd.

        Needs DuckDB: ``pip install "nmfcore[files]"``. Without `columns`, a file is read only if its header names
        user, item and rating (userId, movieId, rating and their like), or if it has no header and three columns,
        or four of which the last holds time stamps. Everything else is refused with the columns that were found.
        Ids are integers if all of a column are written as integers are (no leading zeros, no plus sign), else
        strings.

        Parameters
        ----------
        path : path-like
            Text is UTF-8; a line that is not is read as Latin-1. What a file is, is told by its content.
        columns : sequence of three, or str, optional
            Names or numbers (from 1) of the columns of user, item and rating; as one text, "reader,book,stars" or
            "1,2,4". A header of that name wins over a number.
        sep : str, optional
            What stands between two fields, " " for any blanks; found from the first lines if not given.
        not_rated : float or sequence of float, optional
            Values that stand for "not rated", such as -1, 0 or 99. Their rows are left out.
        time : str or int, optional
            The column that says when each rating was given: integers, or dates, which become seconds since 1970.
            Kept as `times`.
        duplicates : {"error", "last", "mean"}
            What to do where a user rated an item more than once.

        Returns
        -------
        Ratings
            With both kinds of ids sorted.

        Warns
        -----
        UserWarning
            A value is alone beyond the others, or more than half of all are 0: it may stand for "not rated".

        Raises
        ------
        ValueError
            A bad line, named by its number (from 1) and text; a file without ratings; columns that cannot be told;
            a file that is no table of ratings, such as an archive or a workbook.
        ImportError
            DuckDB is not installed.
        OSError
            The file cannot be opened, or is a device. (A pipe is read.)

        Examples
        --------
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "ratings.csv")
        ...     _ = path.write_text("reader,book,stars,day\nann,7,5,2024-02-01\nbob,7,-1,2024-02-03\n")
        ...     ratings = Ratings.from_file(path, columns="reader,book,stars", not_rated=-1, time="day")
        >>> ratings
        Ratings(1 user x 1 item, 1 rating, density 100%, mean 5, range 5 to 5)
        >>> ratings.times
        array([1706745600])
        """
        check_duplicates(duplicates)  # before a long read
        skipped, three = _markers(not_rated), _three(columns)
        check_columns(three, time)
        return cls._read(path, sep, three, time, skipped, duplicates)

    @classmethod
    def _read(
        cls,
        path: str | os.PathLike[str],
        sep: str | None,
        columns: Sequence[str | int | None],
        time: str | int | None,
        not_rated: list[float],
        duplicates: Duplicates,
    ) -> Ratings:
        encoded = read_ratings(path, sep, columns, time, not_rated)
        users, items, values, times = encoded.users, encoded.items, encoded.ratings, encoded.times
        key = join(encoded.user_positions, encoded.item_positions, items.size)
        del encoded
        try:
            parts = assemble_timed(users, items, key, values, times, duplicates)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
        return cls(users, items, *parts)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        sep: str | None = None,
        duplicates: Duplicates = "error",
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
    ) -> Ratings:
        r"""Read a file as `from_file`, with the columns named one by one.

        Parameters
        ----------
        path, sep, duplicates
            As for `from_file`.
        user, item, rating : str, optional
            Names of columns in the header; those that are not given are found by their usual names.

        Returns
        -------
        Ratings
            With both kinds of ids sorted.

        Raises
        ------
        ValueError, ImportError, OSError
            As `from_file`.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "ratings.csv")
        ...     _ = path.write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759\n2,31,4.0,8353554\n")
        ...     Ratings.from_csv(path)
        Ratings(2 users x 1 item, 2 ratings, density 100%, mean 3.25, range 2.5 to 4)
        """
        check_duplicates(duplicates)  # before a long read
        check_columns((user, item, rating))
        return cls._read(path, sep, (user, item, rating), None, [], duplicates)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of users and of items."""
        return self.users.size, self.items.size

    @property
    def nnz(self) -> int:
        """Number of ratings."""
        return self.data.size

    @property
    def density(self) -> float:
        """Share of all pairs of a user and an item that have a rating."""
        return self.nnz / self.users.size / self.items.size

    @property
    def ndim(self) -> int:
        """2, as of a matrix."""
        return 2

    @property
    def dtype(self) -> np.dtype[np.float64]:
        """Type of the ratings."""
        return self.data.dtype

    @property
    def format(self) -> Literal["csr"]:
        """Name of the storage, as SciPy has it."""
        return "csr"

    def tocsr(self) -> Ratings:
        """Return the ratings themselves: they are stored by user."""
        return self

    def __len__(self) -> int:
        return self.nnz

    def __repr__(self) -> str:
        sizes = f"{_count(self.shape[0], 'user')} x {_count(self.shape[1], 'item')}"
        return (
            f"Ratings({sizes}, {_count(self.nnz, 'rating')}, density {100 * self.density:.3g}%, "
            f"mean {self.mean():.4g}, range {self.data.min():g} to {self.data.max():g})"
        )

    def mean(self) -> float:
        """Return the mean of the ratings.

        Examples
        --------
        >>> Ratings.from_triplets([1, 2], [1, 1], [4, 5]).mean()
        4.5
        """
        return float(self.data.mean())

    def triplets(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return (user positions, item positions, ratings), each of shape (nnz,), sorted by user and item.

        Examples
        --------
        >>> Ratings.from_triplets(["b", "a"], [7, 7], [4, 5]).triplets()
        (array([0, 1]), array([0, 0]), array([5., 4.]))
        """
        return np.repeat(np.arange(self.users.size), np.diff(self.indptr)), self.indices, self.data

    def user_index(self, ids: ArrayLike) -> Any:
        """Return the position of a user, or of each user of an array.

        Parameters
        ----------
        ids : id or array-like of ids, shape (k,)
            Ids of the kind that `users` has; `parse_id` reads one from text.

        Returns
        -------
        int, or ndarray of int64, shape (k,)
            Positions in `users`: rows of W.

        Raises
        ------
        KeyError
            An id is not known; the message names it.
        TypeError, ValueError
            It is no id at all: neither a string nor a whole number.

        Examples
        --------
        >>> ratings = Ratings.from_triplets(["b", "a"], [7, 8], [4, 5])
        >>> ratings.user_index("b"), ratings.user_index(["b", "a", "b"])
        (1, array([1, 0, 1]))
        """
        return find_ids(ids, self.users, "user")

    def item_index(self, ids: ArrayLike) -> Any:
        """Return the position of an item, or of each item of an array; otherwise as `user_index`.

        Examples
        --------
        >>> Ratings.from_triplets(["b", "a"], [7, 8], [4, 5]).item_index(8)
        1
        """
        return find_ids(ids, self.items, "item")

    def split(
        self, test: float = 0.1, *, by: Literal["rating", "user", "time"] = "rating", random_state: Seed = None
    ) -> tuple[Ratings, Ratings]:
        """Hold out a part of the ratings; both parts keep all users and items and their positions.

        Parameters
        ----------
        test : float
            The part to hold out, between 0 and 1.
        by : {"rating", "user", "time"}
            "rating": that part of all ratings, at random, whosever they are. "user": that part of each user's
            ratings, at random, rounded, one at least staying in training. "time": the latest ratings; those of
            one time are not divided, so that the part may be smaller.
        random_state : int, Generator, SeedSequence or None
            The same int gives the same split.

        Returns
        -------
        train, test : Ratings
            Of the same shape; no rating is in both.

        Raises
        ------
        ValueError
            `test` is not between 0 and 1, or one of the parts would be empty; `by="time"` and no `times`.

        Examples
        --------
        >>> ratings = Ratings.from_triplets([1, 1, 2, 2], [1, 2, 1, 2], [5, 4, 3, 2])
        >>> train, test = ratings.split(0.25, random_state=0)
        >>> train.nnz, test.nnz, test.shape
        (3, 1, (2, 2))
        """
        if not 0 < test < 1:
            raise ValueError(f"test={test!r}: the part to hold out is a number between 0 and 1, such as 0.1")
        rng = np.random.default_rng(random_state)
        if by == "rating":
            held_out = held_out_by_rating(self.nnz, test, rng)
        elif by == "user":
            held_out = held_out_by_user(self.indptr, test, rng)
        elif by == "time":
            if self.times is None:
                raise ValueError("by='time': these ratings have no times; read them with time=")
            held_out = held_out_by_time(self.times, test)
        else:
            raise ValueError(f"by={by!r}: ratings are held out by 'rating', by 'user' or by 'time'")
        n_test = int(np.count_nonzero(held_out))
        if not 0 < n_test < self.nnz:
            part = "test" if n_test == 0 else "training"
            remedy = "larger" if part == "test" else "smaller"
            remedy += " share" if by == "rating" else " share, or by='rating'"
            raise ValueError(f"test={test} of {self.nnz} ratings by {by} leaves none for {part}: choose a {remedy}")
        return self._subset(~held_out), self._subset(held_out)

    def folds(
        self, k: int = 5, *, by: Literal["rating", "user"] = "rating", random_state: Seed = None
    ) -> Iterator[tuple[Ratings, Ratings]]:
        """Cut the ratings into k parts at random and hold out one after the other (k-fold cross-validation).

        Parameters
        ----------
        k : int
            Number of folds, at least 2.
        by : {"rating", "user"}
            "rating": any k parts of equal size. "user": each user's ratings are spread evenly over the parts
            too. In both, a user's only rating leaves none for training when its turn comes.
        random_state : int, Generator, SeedSequence or None
            The same int gives the same folds.

        Yields
        ------
        train, test : Ratings
            Both with all users and items in their positions. Every rating is in exactly one test part. Each pair
            is made when it is asked for; where memory is short, delete one before the next is made.

        Raises
        ------
        ValueError
            `k` is less than 2 or more than there are ratings.

        Examples
        --------
        >>> ratings = Ratings.from_triplets([1, 1, 2, 2], [1, 2, 1, 2], [5, 4, 3, 2])
        >>> [(train.nnz, test.nnz) for train, test in ratings.folds(2, random_state=0)]
        [(2, 2), (2, 2)]
        """
        k = _whole(k)
        if not 2 <= k <= self.nnz:
            raise ValueError(f"k={k}: {_count(self.nnz, 'rating')} can be cut into 2 to {self.nnz} folds")
        rng = np.random.default_rng(random_state)
        if by == "rating":
            folds = folds_by_rating(self.nnz, k, rng)
        elif by == "user":
            folds = folds_by_user(self.indptr, k, rng)
        else:
            raise ValueError(f"by={by!r}: folds are made by 'rating' or by 'user'")
        return ((self._subset(folds != fold), self._subset(folds == fold)) for fold in range(k))

    def merge(self, other: Ratings, *, duplicates: Duplicates = "last") -> Ratings:
        """Return the ratings of both, of all users and items of both.

        Parameters
        ----------
        other : Ratings
            With ids of the same kinds.
        duplicates : {"last", "error", "mean"}
            What to do where a user rated an item in both: take the rating of `other`, raise, or take the mean.

        Returns
        -------
        Ratings
            With both kinds of ids sorted: positions of users and items may differ from those here. With `times`
            if both have them; of a rating that is in both, that of `other`.

        Raises
        ------
        TypeError
            `other` is not Ratings, or ids are integers in one and strings in the other.
        ValueError
            A user rated an item in both, and `duplicates` is "error".

        Examples
        --------
        >>> old = Ratings.from_triplets(["ann", "bob"], [10, 10], [5, 3])
        >>> both = old.merge(Ratings.from_triplets(["bob", "aya"], [10, 20], [4, 1]))
        >>> both.users, both.triplets()
        (array(['ann', 'aya', 'bob'], dtype='<U3'), (array([0, 1, 2]), array([0, 1, 0]), array([5., 1., 4.])))
        """
        check_duplicates(duplicates)
        if not isinstance(other, Ratings):
            raise TypeError(f"other is a {type(other).__name__}, not Ratings; see Ratings.from_frame and from_triplets")
        users, items = union_ids(self.users, other.users, "user"), union_ids(self.items, other.items, "item")
        key, new_key = (keys_among(users, items, r.users, r.items, r.indptr, r.indices) for r in (self, other))
        if duplicates == "error":
            refuse_known(users, items, key, new_key)
        times = None
        if self.times is not None and other.times is not None:
            _, times = insert(key, self.times, new_key, other.times, "last")
        key, values = insert(key, self.data, new_key, other.data, duplicates)
        return Ratings(users, items, *compress(key, values, users.size, items.size), times)

    def _subset(self, kept: NDArray[np.bool_]) -> Ratings:
        indptr = counts_before(kept, self.indptr)
        times = None if self.times is None else self.times[kept]
        return Ratings(self.users, self.items, indptr, self.indices[kept], self.data[kept], times)


def _three(columns: str | Sequence[str | int] | None) -> Sequence[str | int | None]:
    if columns is None:
        return (None, None, None)
    named = [name.strip() for name in columns.split(",")] if isinstance(columns, str) else list(columns)
    kinds = all(
        isinstance(name, (str, int, np.integer)) and not isinstance(name, bool) and name != "" for name in named
    )
    if len(named) != 3 or not kinds:
        raise ValueError(f"columns={columns!r}: give three names or numbers, as in columns=('reader', 'book', 'stars')")
    return [name if isinstance(name, str) else int(name) for name in named]


def _markers(not_rated: float | Sequence[float] | None) -> list[float]:
    if not_rated is None:
        return []
    try:
        markers = np.atleast_1d(np.asarray(not_rated)).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        markers = np.array([np.nan])
    if not np.isfinite(markers).all():
        raise ValueError(f"not_rated={not_rated!r}: give a number or several that stand for 'not rated', such as -1")
    return list(map(float, markers.tolist()))


def _sized(column: Any) -> Any:
    return column if hasattr(column, "__len__") else list(column)


def _whole(k: SupportsIndex) -> int:
    try:
        return operator.index(k)
    except TypeError:
        raise TypeError(f"k={k!r}: the number of folds is an integer") from None


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
