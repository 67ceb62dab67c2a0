"""Who races. An adapter calls a library the way its users do, from given factors, and hands back factors.

``run(problem, W, H, n_iter)`` may overwrite W and H (they are copies, made outside the clock). ``n_iter=None`` means
the library's own defaults; a number means exactly so many iterations, for trajectories.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from benchmarks.objective import FROBENIUS, KL

SMALL = 2e6  # stored entries; beyond this the NumPy reference is left out


class Problem(NamedTuple):
    """What is to be factorised."""

    X: Any
    rank: int
    loss: str
    masked: bool
    seed: int


class Answer(NamedTuple):
    """What came of it; ``objective`` is what the library itself says, where it says anything."""

    W: Any
    H: Any
    objective: float | None = None
    n_iter: int | None = None


@dataclass(frozen=True)
class Contender:
    name: str
    package: str
    run: Callable[[Problem, Any, Any, int | None], Answer]
    does: frozenset[str]  # "dense", "sparse", "masked" (Frobenius), "kl"
    traced: bool = True  # whether it can be asked for a number of iterations
    most_entries: float = float("inf")

    def lacks(self, group: str, entries: int) -> str:
        """Why it does not take part (it does: "")."""
        if group not in self.does:
            return f"not available: no {group}"
        if entries > self.most_entries:
            return f"left out: more than {self.most_entries:.0e} entries"
        try:
            missing = importlib.util.find_spec(self.package) is None
        except (ImportError, ValueError):
            missing = True
        return "not installed" if missing else ""

    def version(self) -> str:
        try:
            return importlib.metadata.version("scikit-learn" if self.package == "sklearn" else self.package)
        except importlib.metadata.PackageNotFoundError:
            return "?"


def nmfcore(p: Problem, W: Any, H: Any, n_iter: int | None, **limits: Any) -> Answer:
    import nmfcore

    options: dict[str, Any] = {"missing_values": "unstored"} if p.masked else {}
    if p.loss != FROBENIUS:
        options["loss"] = p.loss
    # With factors given the default is to start exactly there; what it does with its own is asked for by name.
    options |= {"random_state": p.seed} if W is None else {"init": "compressed"}
    if n_iter is not None:
        limits |= {"tol": 0.0, "max_iter": n_iter}
    f = nmfcore.factorize(p.X, p.rank, W=W, H=H, **options, **limits)
    return Answer(f.W, f.H, f.objective, f.n_iter)


def nmfcore_has(loss: str) -> bool:
    import nmfcore

    try:
        nmfcore.factorize(np.eye(2) + 1.0, 1, loss=loss, random_state=0, max_iter=1, tol=0.0)
    except (ValueError, NotImplementedError):
        return False
    return True


def sklearn_cd(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    return _sklearn("cd", p, W, H, n_iter)


def sklearn_mu(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    return _sklearn("mu", p, W, H, n_iter)


def _sklearn(solver: str, p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    from sklearn.decomposition import NMF

    limits = {"tol": 1e-4, "max_iter": 200} if n_iter is None else {"tol": 0.0, "max_iter": n_iter}
    if W is None:  # default against default
        model = NMF(p.rank, random_state=p.seed)
        return _answer(model, model.fit_transform(p.X), p)
    model = NMF(p.rank, init="custom", solver=solver, beta_loss=p.loss, **limits)
    return _answer(model, model.fit_transform(p.X, W=W, H=H), p)


def _answer(model: Any, W: Any, p: Problem) -> Answer:
    # reconstruction_err_ is √(2 f) for every loss of scikit-learn's.
    return Answer(W, model.components_, 0.5 * float(model.reconstruction_err_) ** 2, int(model.n_iter_))


def sklearn_minibatch(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    from sklearn.decomposition import MiniBatchNMF

    limits = {} if n_iter is None else {"tol": 0.0, "max_no_improvement": None, "max_iter": n_iter}
    model = MiniBatchNMF(p.rank, init="custom", beta_loss=p.loss, random_state=p.seed, **limits)
    return Answer(model.fit_transform(p.X, W=W, H=H), model.components_, None, int(model.n_iter_))


def tensorly(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    from tensorly.cp_tensor import CPTensor
    from tensorly.decomposition import non_negative_parafac_hals

    limits: dict[str, Any] = {} if n_iter is None else {"tol": 0.0, "n_iter_max": n_iter}
    begin = CPTensor((np.ones(p.rank, p.X.dtype), [W, np.ascontiguousarray(H.T)]))
    (weights, (A, B)), errors = non_negative_parafac_hals(p.X, p.rank, init=begin, return_errors=True, **limits)
    return Answer(A * weights, B.T, None, len(errors))


def nimfa(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    import nimfa

    limits = {"max_iter": 200} if n_iter is None else {"max_iter": n_iter, "min_residuals": 0.0}
    fit = nimfa.Lsnmf(p.X, seed=None, W=W, H=H, rank=p.rank, **limits)()
    return Answer(np.asarray(fit.basis()), np.asarray(fit.coef()), None, int(fit.fit.n_iter))


def numpy_reference(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
    from nmfcore import reference

    if p.masked:
        known = scipy.sparse.csr_array((np.ones(p.X.nnz, bool), p.X.indices, p.X.indptr), shape=p.X.shape).toarray()
        n_iter = n_iter or MASKED_ITERATIONS
        return Answer(*reference.masked_hals(p.X.toarray(), known, W, H, n_iter), None, n_iter)
    n_iter = n_iter or 200
    return Answer(*reference.hals(p.X, W, H, n_iter), None, n_iter)


MASKED_ITERATIONS = 20  # of the masked reference, a Python loop over rows: its answer is the target there

_ALL = frozenset({"dense", "sparse", "kl"})
CONTENDERS = (
    Contender("nmfcore", "nmfcore", nmfcore, _ALL | {"masked"}),
    Contender("sklearn-cd", "sklearn", sklearn_cd, frozenset({"dense", "sparse"})),
    Contender("sklearn-mu", "sklearn", sklearn_mu, _ALL),
    Contender("sklearn-minibatch", "sklearn", sklearn_minibatch, _ALL),
    Contender("tensorly-hals", "tensorly", tensorly, frozenset({"dense"})),
    Contender("nimfa-lsnmf", "nimfa", nimfa, frozenset({"dense"}), traced=False),
    Contender("numpy", "nmfcore", numpy_reference, frozenset({"dense", "sparse", "masked"}), most_entries=SMALL),
)
DEFAULTS = (  # each with its own start and its own stop
    Contender("nmfcore-default", "nmfcore", nmfcore, frozenset({"dense", "sparse"}), traced=False),
    Contender("sklearn-default", "sklearn", sklearn_cd, frozenset({"dense", "sparse"}), traced=False),
)


def find(name: str) -> Contender:
    """By its name, or ``MODULE:FUNCTION`` for one of your own with ``run``'s signature."""
    for contender in CONTENDERS + DEFAULTS:
        if contender.name == name:
            return contender
    module, _, function = name.partition(":")
    if not function:
        raise ValueError(f"no contender {name!r}; name MODULE:FUNCTION for your own")

    def run(p: Problem, W: Any, H: Any, n_iter: int | None) -> Answer:
        return Answer(*getattr(importlib.import_module(module), function)(p, W, H, n_iter))

    return Contender(name, module, run, _ALL | {"masked"}, traced=False)


__all__ = ["CONTENDERS", "DEFAULTS", "KL", "Answer", "Contender", "Problem", "find", "nmfcore", "nmfcore_has"]
