"""Ratings out of matrices: what SciPy stores and what NumPy finds not missing, under the ids of rows and columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from nmfcore.ratings import Ratings

NAN = float("nan")


def cells(ratings: Ratings) -> dict[tuple[object, object], float]:
    users, items, values = ratings.triplets()
    pairs = zip(ratings.users[users].tolist(), ratings.items[items].tolist(), strict=True)
    return dict(zip(pairs, values.tolist(), strict=True))


def stored(seed: int = 0) -> scipy.sparse.coo_array:
    rng = np.random.default_rng(seed)
    places = rng.permutation(12 * 9)[:40]
    values = np.concatenate([np.zeros(5), rng.integers(1, 11, 35) / 2])
    return scipy.sparse.coo_array((values, np.divmod(places, 9)), shape=(12, 9))


@pytest.mark.parametrize("kind", [scipy.sparse.coo_array, scipy.sparse.coo_matrix])
@pytest.mark.parametrize("format", ["coo", "csr", "csc", "lil", "dok"])
def test_what_is_stored_is_a_rating(format: str, kind: type) -> None:
    coo = stored()
    X = kind(coo).asformat(format)
    there = X.tocoo()
    expected = dict(zip(zip(there.row.tolist(), there.col.tolist(), strict=True), there.data.tolist(), strict=True))
    ratings = Ratings.from_sparse(X)
    assert ratings.shape == X.shape
    assert cells(ratings) == expected
    if format in ("coo", "csr", "csc"):
        assert np.count_nonzero(ratings.data == 0) == 5
    canonical = scipy.sparse.csr_array((ratings.data, ratings.indices, ratings.indptr), shape=ratings.shape)
    assert np.array_equal(canonical.toarray(), coo.toarray())


@pytest.mark.parametrize("format", ["bsr", "dia"])
def test_formats_that_pad(format: str) -> None:
    X = scipy.sparse.csr_array(np.array([[1.0, 2.0], [3.0, 4.0]])).asformat(format)
    assert cells(Ratings.from_sparse(X)) == {(0, 0): 1, (0, 1): 2, (1, 0): 3, (1, 1): 4}


def test_ids_of_rows_and_columns_in_any_order() -> None:
    X = stored()
    users, items = [f"u{k * 5 % 12}" for k in range(12)], [k * 4 % 9 + 100 for k in range(9)]
    ratings = Ratings.from_sparse(X.tocsc(), users, pd.Series(items))
    assert ratings.users.tolist() == sorted(users)
    assert ratings.items.tolist() == sorted(items)
    expected = {(users[i], items[j]): x for i, j, x in zip(X.row, X.col, X.data, strict=True)}
    assert cells(ratings) == expected


def test_rows_and_columns_without_ratings_stay() -> None:
    X = scipy.sparse.coo_array(([3.0], ([1], [2])), shape=(4, 5))
    assert Ratings.from_sparse(X).shape == (4, 5)
    assert Ratings.from_dense(np.where(X.toarray() == 0, NAN, X.toarray())).shape == (4, 5)


def test_duplicates_in_a_sparse_matrix() -> None:
    X = scipy.sparse.coo_array(([1.0, 4.0, 2.0], ([1, 0, 1], [0, 1, 0])), shape=(2, 2))
    with pytest.raises(ValueError, match="user 1 and item 0, 2 times"):
        Ratings.from_sparse(X)
    assert cells(Ratings.from_sparse(X, duplicates="last")) == {(0, 1): 4, (1, 0): 2}
    assert cells(Ratings.from_sparse(X, duplicates="mean")) == {(0, 1): 4, (1, 0): 1.5}
    csr = scipy.sparse.csr_array((np.array([1.0, 2.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    with pytest.raises(ValueError, match="user 'ann' and item 1, 2 times"):
        Ratings.from_sparse(csr, users=["ann"])


def test_the_matrix_is_left_as_it_is() -> None:
    X = stored().tocsr()
    before = X.data.copy(), X.indices.copy(), X.indptr.copy()
    ratings = Ratings.from_sparse(X)
    X.data[:] = 9
    assert not (ratings.data == 9).all()
    assert np.array_equal(ratings.data, before[0])
    assert np.array_equal(X.indices, before[1])
    dense = np.array([[1.0, 2.0]])
    ratings = Ratings.from_dense(dense)
    dense[:] = 9
    assert ratings.data.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (NAN, "row 2, column 1 of X is nan"),
        (np.inf, "row 2, column 1 of X is inf"),
        (-1.0, "row 2, column 1 of X is -1"),
    ],
)
def test_a_bad_rating_is_named_by_row_and_column(value: float, message: str) -> None:
    X = scipy.sparse.coo_array(([1.0, value, 2.0], ([0, 2, 2], [1, 1, 2])), shape=(3, 3))
    with pytest.raises(ValueError, match=f"rating in {message}"):
        Ratings.from_sparse(X)
    with pytest.raises(ValueError, match=f"rating in {message}"):
        Ratings.from_dense(X.toarray(), missing_values=0)


@pytest.mark.parametrize(
    ("X", "ids", "error", "message"),
    [
        (np.eye(2), {}, TypeError, "ndarray, not a SciPy sparse matrix; use from_dense"),
        (scipy.sparse.csr_array((2, 2)), {}, ValueError, "no ratings"),
        (scipy.sparse.csr_array((0, 2)), {}, ValueError, "no ratings"),
        (scipy.sparse.coo_array(([1.0], ([0],)), shape=(3,)), {}, ValueError, "1 dimensions"),
        (scipy.sparse.eye_array(2, dtype=complex), {}, TypeError, "complex128"),
        (scipy.sparse.eye_array(2), {"users": [1]}, ValueError, "1 user ids where X has 2 rows"),
        (scipy.sparse.eye_array(2), {"items": [1, 2, 3]}, ValueError, "3 item ids where X has 2 columns"),
        (scipy.sparse.eye_array(2), {"items": ["a", "a"]}, ValueError, "item id 'a' stands for 2 columns"),
        (scipy.sparse.eye_array(2), {"users": ["a", None]}, ValueError, "user id in row 1 is None"),
        (scipy.sparse.eye_array(2), {"users": [1, NAN]}, ValueError, "user id in row 1 is nan"),
        (scipy.sparse.eye_array(2), {"users": [1, "1"]}, TypeError, "user id '1' in row 1"),
    ],
)
def test_what_a_sparse_matrix_may_not_be(
    X: object, ids: dict[str, list[object]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Ratings.from_sparse(X, **ids)


def test_a_damaged_matrix_is_refused() -> None:
    X = scipy.sparse.coo_array(np.eye(3))
    X.col[1] = 7
    with pytest.raises(ValueError, match="column 7 is not one of the 3 of X: the sparse matrix is damaged"):
        Ratings.from_sparse(X)


# Dense


def test_what_is_not_missing_is_a_rating() -> None:
    X = np.array([[5, NAN, 0], [NAN, 2.5, 1]])
    assert cells(Ratings.from_dense(X)) == {(0, 0): 5, (0, 2): 0, (1, 1): 2.5, (1, 2): 1}
    zeros = np.array([[5, 0], [0, 2]])
    assert cells(Ratings.from_dense(zeros, missing_values=0)) == {(0, 0): 5, (1, 1): 2}
    assert Ratings.from_dense(zeros).nnz == 4
    assert cells(Ratings.from_dense([[1, None]])) == {(0, 0): 1}


def test_what_is_masked_is_missing_too() -> None:
    X = np.ma.array([[5.0, 1.0], [NAN, 3.0]], mask=[[0, 1], [0, 0]])
    assert cells(Ratings.from_dense(X)) == {(0, 0): 5, (1, 1): 3}
    X = np.ma.array([[5, 1], [0, -3]], mask=[[0, 1], [0, 1]])
    assert cells(Ratings.from_dense(X, 0)) == {(0, 0): 5}


@pytest.mark.parametrize("dtype", ["float64", "Float64", "Int64", "object"])
def test_a_pivot_table_brings_its_ids(dtype: str) -> None:
    long = pd.DataFrame({"user": ["b", "a", "b"], "item": [9, 7, 7], "stars": [1, 2, 3]})
    wide = long.pivot(index="user", columns="item", values="stars").astype(dtype)
    assert cells(Ratings.from_dense(wide)) == {("b", 9): 1, ("a", 7): 2, ("b", 7): 3}
    named = Ratings.from_dense(wide, users=[2, 1])
    assert (named.users.tolist(), named.items.tolist()) == ([1, 2], [7, 9])
    assert cells(named) == {(1, 9): 1, (2, 7): 2, (1, 7): 3}


class PolarsFrame:
    columns = ("x", "y")

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return np.array([[1.0, NAN], [2.0, 3.0]])


class ArrowTable(PolarsFrame):
    column_names = ("x", "y")
    columns = (np.array([1.0, 2.0]), np.array([NAN, 3.0]))


@pytest.mark.parametrize("make", [PolarsFrame, ArrowTable, "polars", "pyarrow"])
def test_a_table_with_names_and_without_an_index(make: type | str) -> None:
    if isinstance(make, str):
        module = pytest.importorskip(make)
        data = {"x": [1.0, 2.0], "y": [None, 3.0]}
        frame = module.table(data) if make == "pyarrow" else module.DataFrame(data)
    else:
        frame = make()
    assert cells(Ratings.from_dense(frame)) == {(0, "x"): 1, (1, "x"): 2, (1, "y"): 3}


@pytest.mark.parametrize(
    ("X", "options", "error", "message"),
    [
        ([[NAN, NAN]], {}, ValueError, "all 2 entries of X are missing"),
        ([[0, 0]], {"missing_values": 0}, ValueError, "all 2 entries"),
        ([[1, NAN]], {"missing_values": 0}, ValueError, "row 0, column 1 of X is nan"),
        ([[1, 2]], {"missing_values": -1}, ValueError, "missing_values=-1: .*np.nan or 0"),
        ([[1, 2]], {"missing_values": None}, ValueError, "missing_values=None"),
        ([[1, 2]], {"missing_values": "unstored"}, ValueError, "missing_values='unstored'"),
        ([1, 2], {}, ValueError, "1 dimensions"),
        ([["1", "2"]], {}, TypeError, "a matrix of numbers"),
        ([[1, {}]], {}, TypeError, "numbers only"),
        (scipy.sparse.eye_array(2), {}, TypeError, "from_sparse"),
        (pd.DataFrame({"a": [1.0], "b": ["x"]}), {}, TypeError, "does not hold numbers.*from_frame"),
        (pd.DataFrame([[1.0], [2.0]], index=["a", "a"]), {}, ValueError, "user id 'a' stands for 2 rows"),
    ],
)
def test_what_a_dense_matrix_may_not_be(
    X: object, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Ratings.from_dense(X, **options)
