"""What this machine can do at most, by one thread of Numba's or BLAS's, measured in the same run as the kernels."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from nmfcore.kernels._jit import kernel

Array = Any


@kernel
def horner(x: Array, times: int, out: Array) -> None:
    """32 flop a number, kept in the first-level cache: independent chains of fused multiply-adds."""
    a = x.dtype.type(0.5)
    for _ in range(times):
        for i in range(x.size):
            v = x[i]
            s = a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            s = s * v + a
            out[i] = s * v + a


@kernel
def triad(x: Array, y: Array, out: Array) -> None:
    a = x.dtype.type(0.5)
    for i in range(x.size):
        out[i] = x[i] + a * y[i]


@cache
def peak(dtype: str) -> dict[str, Any]:
    """GFLOP/s of the faster of a Horner kernel and a square BLAS product, and GB/s of a triad beyond the caches."""
    rng = np.random.default_rng(0)
    x = rng.random(1024).astype(dtype)
    out = np.empty_like(x)
    fma = 32e-9 * x.size * 2000 / _best(lambda: horner(x, 2000, out))
    A = rng.random((768, 768)).astype(dtype)
    with threadpool_limits(1):
        blas = 2e-9 * A.shape[0] ** 3 / _best(lambda: A @ A)
    u, v = np.ones((2, 2**24), dtype)
    w = np.empty_like(u)
    stream = 3e-9 * u.nbytes / _best(lambda: triad(u, v, w))
    return {"gflops": max(fma, blas), "by": "horner" if fma > blas else "blas", "gbytes": stream}


def _best(call: Any, rounds: int = 5) -> float:
    call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)
