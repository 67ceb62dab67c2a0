"""How far predicted ratings are from the true ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def rmse(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the root mean squared error, ``sqrt(Σ_k (y_true_k − y_pred_k)² / n)``.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        True and predicted ratings, in the same order; any shape will do if it is the same.

    Returns
    -------
    float
        In the unit of the ratings.

    Raises
    ------
    ValueError
        The shapes differ, there is nothing to compare, or a value is not finite.

    Examples
    --------
    >>> rmse([4, 3, 5, 2], [4, 4, 4, 4])
    1.224744871391589
    """
    errors = np.abs(_errors(y_true, y_pred))
    scale = float(errors.max()) or 1.0  # squares of very large or small errors would leave the range of float64
    return scale * float(np.sqrt(np.mean((errors / scale) ** 2)))


def mae(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the mean absolute error, ``Σ_k |y_true_k − y_pred_k| / n``.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        True and predicted ratings, in the same order; any shape will do if it is the same.

    Returns
    -------
    float
        In the unit of the ratings.

    Raises
    ------
    ValueError
        The shapes differ, there is nothing to compare, or a value is not finite.

    Examples
    --------
    >>> mae([4, 3, 5, 2], [4, 4, 4, 4])
    1.0
    """
    return float(np.mean(np.abs(_errors(y_true, y_pred))))


def _errors(y_true: ArrayLike, y_pred: ArrayLike) -> NDArray[np.float64]:
    true = np.asarray(y_true, dtype=np.float64)
    predicted = np.asarray(y_pred, dtype=np.float64)
    if true.shape != predicted.shape:  # broadcasting here would give a plausible, wrong number
        raise ValueError(f"y_true has shape {true.shape}, y_pred {predicted.shape}; they are compared one by one")
    if true.size == 0:
        raise ValueError("y_true and y_pred are empty; there is no error to speak of")
    for name, values in (("y_true", true), ("y_pred", predicted)):
        if not np.isfinite(values).all():
            place = int(np.argmin(np.isfinite(values)))
            raise ValueError(f"{name} is {values.flat[place]} at position {place}; leave out what has no value")
    return true - predicted
