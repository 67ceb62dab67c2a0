"""Who races for a held-out RMSE, each called the way its users call it, at settings stated here.

A contender is a class. ``__init__(train, threads)`` turns the training ratings (a scipy CSR array of float32, stored =
observed) into what the library reads, outside the clock; ``fit(rank, l2, n_iter, seed)`` is what is timed, the
library's own call and nothing else; ``model(fitted)`` takes the factors out of what it returned, outside the clock.
Only NumPy, SciPy and the library itself are imported, so that a library may run in an interpreter of its own.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse


class Model(NamedTuple):
    """``level + user_u + item_i + w_u · h_i``: W (users, rank) and H (rank, items)."""

    W: Any
    H: Any
    level: float = 0.0
    user: Any = None
    item: Any = None


# --- nmfcore: everything about its side of the race is in these few lines ---------------------------------------------

L2 = 0.065  # for each rating: on a validation part of the training ratings .06 and .07 are level


def nmfcore_fit(train: Any, rank: int, seed: int, max_iter: int, callback: Any = None) -> Any:
    """A `Factorization` after ``max_iter`` iterations: float32, l2 scaled by each row's number of ratings.

    Every step is carried on by three tenths: Nesterov's growing shares, and balanced components, lower the objective
    sooner, but not the held-out error.
    """
    import nmfcore

    options: dict[str, Any] = {"missing_values": "unstored", "dtype": "float32", "random_state": seed}
    options |= {"max_iter": max_iter, "tol": 0.0, "callback": callback}
    solver = nmfcore.solvers.HALS(sweeps=8, extrapolate=0.3)
    return nmfcore.factorize(train, rank, l2=L2, l2_scaling="count", solver=solver, **options)


class Nmfcore:
    """Timed from the CSR array as scipy holds it, sorting, checking and transposing included."""

    name, package, distribution = "nmfcore", "nmfcore", "nmfcore"

    def __init__(self, train: Any, threads: int) -> None:
        self.train = train  # threads: by NMFCORE_NUM_THREADS

    def fit(self, rank: int, l2: float, n_iter: int, seed: int, callback: Any = None) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tol=0: max_iter ends it
            return nmfcore_fit(self.train, rank, seed, n_iter, callback)

    @staticmethod
    def model(fitted: Any) -> Model:
        return Model(fitted.W, fitted.H)


# --- peers ------------------------------------------------------------------------------------------------------------


class Libmf:
    """LIBMF with ``do_nmf`` by its PyPI wrapper; l2 on P and Q, for each rating, in LIBMF's own scaled unit.

    Timed is the C function ``fit_interface`` alone: it copies (user, item, rating) of float32 into LIBMF's nodes and
    trains; the array is made outside the clock, and so is the wrapper's own ``astype``. LIBMF draws its start from a
    fixed seed; two threads make its answers differ from call to call. A row that no rating belongs to is NaN there.

    The wrapper's ``predict`` reads its indices wrongly, so P (users, rank) and Q (items, rank) are read here.
    """

    name, package, distribution = "libmf", "libmf", "libmf"
    OPTIONS: ClassVar[dict[str, Any]] = {"fun": 0, "nr_bins": 26, "eta": 0.1, "lambda_p1": 0.0, "lambda_q1": 0.0}

    def __init__(self, train: Any, threads: int) -> None:
        self.shape, self.threads = train.shape, threads
        self.triplets = np.column_stack([_rows(train), train.indices, train.data]).astype(np.float32)

    def fit(self, rank: int, l2: float, n_iter: int, seed: int) -> Any:
        import ctypes

        from libmf import mf

        options = self.OPTIONS | {"k": rank, "nr_threads": self.threads, "nr_iters": n_iter, "lambda_p2": l2}
        engine = mf.MF(lambda_q2=l2, do_nmf=True, quiet=True, copy_data=False, **options)
        call = mf.mf.fit_interface
        call.restype = ctypes.POINTER(mf.MFModel)
        call.argtypes = (ctypes.c_int, mf.c_float_p, mf.options_ptr)
        return call(len(self.triplets), self.triplets.ctypes.data_as(mf.c_float_p), engine._options).contents

    def model(self, fitted: Any) -> Model:
        P = np.ctypeslib.as_array(fitted.P, (fitted.m, fitted.k))
        Q = np.ctypeslib.as_array(fitted.Q, (fitted.n, fitted.k))
        W, H = _unseen_as_zero(P, self.shape[0]), _unseen_as_zero(Q, self.shape[1])
        return Model(W, H.T)


class Cmfrec:
    """cmfrec's CMF: non-negative ALS by coordinate descent, l2 times the number of ratings, float32.

    No centring and no biases: its documentation advises against centring with ``nonneg``, and the model then is W H,
    as everybody else's here. ``precompute_for_predictions=False``: nothing that is not needed is timed.
    """

    name, package, distribution = "cmfrec", "cmfrec", "cmfrec"

    def __init__(self, train: Any, threads: int) -> None:
        self.threads = threads
        self.X = scipy.sparse.coo_matrix((train.data, (_rows(train), train.indices)), shape=train.shape)

    def fit(self, rank: int, l2: float, n_iter: int, seed: int) -> Any:
        from cmfrec import CMF

        options = {"nonneg": True, "scale_lam": True, "center": False, "user_bias": False, "item_bias": False}
        options |= {"use_float": True, "precompute_for_predictions": False, "verbose": False}
        model = CMF(k=rank, lambda_=l2, method="als", use_cg=False, niter=n_iter, random_state=seed + 1,
                    nthreads=self.threads, **options)  # fmt: skip
        return model.fit(self.X)

    @staticmethod
    def model(fitted: Any) -> Model:
        return Model(fitted.A_, fitted.B_.T)


class Surprise:
    """Surprise's NMF, as its documentation has it: 50 epochs, l2 0.06 on both sides, unbiased. It uses one thread.

    Timed is ``fit(trainset)``; making the trainset is not.
    """

    name, package, distribution = "surprise", "surprise", "scikit-surprise"

    def __init__(self, train: Any, threads: int) -> None:
        import pandas
        from surprise import Dataset, Reader

        frame = pandas.DataFrame({"user": _rows(train), "item": train.indices, "rating": train.data.astype(float)})
        self.shape, self.trainset = train.shape, Dataset.load_from_df(frame, Reader()).build_full_trainset()

    def fit(self, rank: int, l2: float, n_iter: int, seed: int) -> Any:
        from surprise import NMF

        model = NMF(n_factors=rank, n_epochs=n_iter, reg_pu=l2, reg_qi=l2, random_state=seed)
        return model.fit(self.trainset)

    def model(self, fitted: Any) -> Model:
        W, H = (
            np.zeros((size, factor.shape[1])) for size, factor in zip(self.shape, (fitted.pu, fitted.qi), strict=True)
        )
        W[[self.trainset.to_raw_uid(k) for k in range(self.trainset.n_users)]] = fitted.pu
        H[[self.trainset.to_raw_iid(k) for k in range(self.trainset.n_items)]] = fitted.qi
        return Model(W, H.T)


class Cornac:
    """cornac's NMF at its own settings: 50 epochs, l2 0.06; no seed, for a seed would allow it one thread only."""

    name, package, distribution = "cornac", "cornac", "cornac"

    def __init__(self, train: Any, threads: int) -> None:
        from cornac.data import Dataset

        self.shape, self.threads = train.shape, threads
        rows, columns, ratings = _rows(train).tolist(), train.indices.tolist(), train.data.tolist()
        self.data = Dataset.build(list(zip(rows, columns, ratings, strict=True)))

    def fit(self, rank: int, l2: float, n_iter: int, seed: int) -> Any:
        from cornac.models import NMF

        options = {"lambda_u": l2, "lambda_v": l2, "verbose": False}
        return NMF(k=rank, max_iter=n_iter, num_threads=self.threads, **options).fit(self.data)

    def model(self, fitted: Any) -> Model:
        W, H = (np.zeros((size, fitted.u_factors.shape[1])) for size in self.shape)
        W[list(self.data.uid_map)] = fitted.u_factors[list(self.data.uid_map.values())]
        H[list(self.data.iid_map)] = fitted.i_factors[list(self.data.iid_map.values())]
        return Model(W, H.T)


CONTENDERS = {c.name: c for c in (Nmfcore, Libmf, Cmfrec, Surprise, Cornac)}


def find(name: str) -> Any:
    """By its name, or ``MODULE:CLASS`` for one of your own."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute) if attribute else CONTENDERS[name]


def _rows(train: Any) -> Any:
    return np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))


def _unseen_as_zero(factor: Any, size: int) -> Any:
    """A copy with a row for everybody; who has no rating in the training part is not predicted by factors anyway."""
    out = np.zeros((size, factor.shape[1]), factor.dtype)
    out[: len(factor)] = np.where(np.isnan(factor).all(axis=1)[:, None], 0, factor)
    return out
