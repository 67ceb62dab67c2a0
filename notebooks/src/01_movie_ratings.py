# ---
# jupyter:
#   jupytext:
#     formats: ipynb,src//py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Movie ratings: what NMF sees in a table
#
# Five users, four movies, some ratings from 1 to 5, and zeros. This notebook factorises the table in two ways that
# differ only in what a zero means, rebuilds the solver in ten lines of NumPy, and asks what may be concluded from the
# result. Everything is seeded; it runs in a few seconds.

# %%
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

import nmfcore
from nmfcore import plot

plt.rcParams["figure.dpi"] = 110
pd.options.display.precision = 4

# %% [markdown]
# ## 1. What does X ≈ W H mean?

# %%
users = [f"User{i}" for i in range(1, 6)]
movies = [f"Movie{j}" for j in range(1, 5)]
features = ["F1", "F2"]

table = pd.DataFrame(
    [
        [5, 3, 0, 1],
        [4, 0, 0, 1],
        [1, 1, 0, 5],
        [1, 0, 0, 4],
        [0, 1, 5, 4],
    ],
    index=users,
    columns=movies,
)
table

# %% [markdown]
# Non-negative matrix factorisation (NMF) of rank $r$ looks for two smaller matrices without negative entries whose
# product is close to $X$:
#
# $$
# \underbrace{X}_{m \times n} \;\approx\; \underbrace{W}_{m \times r}\,\underbrace{H}_{r \times n},
# \qquad X_{ij} \approx \sum_{t=1}^{r} W_{it} H_{tj}, \qquad W, H \ge 0 .
# $$
#
# Each of the $r$ components is called a latent feature. $H_{tj}$ is how much of feature $t$ is in movie $j$, and
# $W_{it}$ how much weight user $i$ gives to it. Nothing is ever subtracted: a rating is built by adding parts.

# %%
X = table.to_numpy(float)
first = nmfcore.factorize(X, rank=2, random_state=42)
print("X", X.shape, "≈ W", first.W.shape, "times H", first.H.shape)

here = np.zeros(X.shape, bool)
here[2, 3] = True
plot.factors(first, rows=users, columns=movies, components=features, mark=here)
plt.show()
# %% [markdown]
# Read the picture as the product is computed: the framed entry of $WH$ (User3, Movie4) is made from the row of $W$ to
# its left and the column of $H$ above it. (Multiply the numbers in the picture: they are rounded, so the last digit may
# differ.)

# %%
W, H = first
parts = W[2] * H[:, 3]
print("from F1: {:.4f}   from F2: {:.4f}   sum: {:.4f}   rated: {:.0f}".format(*parts, parts.sum(), X[2, 3]))

# %% [markdown]
# ## 2. Reading one: what if a zero is a rating of 0?
#
# A plain matrix has no empty cells. To a solver that is handed one, as scikit-learn's `NMF` is, "0" says that the user
# rated the movie with 0, and all 20 cells count:
#
# $$ \text{objective} = \tfrac12 \sum_{i,j} \bigl(X_{ij} - (WH)_{ij}\bigr)^2 . $$
#
# We solve it with the textbook form of HALS (section 4), to a tight tolerance (section 5).

# %%
textbook = nmfcore.solvers.HALS(sweeps=1, extrapolate=False)
rated = nmfcore.factorize(X, 2, init="random", random_state=42, solver=textbook, tol=1e-10, max_iter=2000)

print(rated.status.value, f"({rated.n_iter} iterations)")
print(f"mean squared error over all {X.size} cells: {np.mean((X - rated.reconstruct()) ** 2):.6f}")
display(pd.DataFrame(rated.W, users, features), pd.DataFrame(rated.H, features, movies))

# %%
pd.DataFrame(rated.reconstruct(), users, movies)

# %% [markdown]
# The product is that of the picture above, but W and H have other sizes: section 6 says why that is no contradiction.
#
# scikit-learn, started from the same random numbers, arrives at the same place. It stops earlier by default, so the
# last digits differ.

# %%
try:
    from sklearn.decomposition import NMF
except ImportError:
    print("scikit-learn is not installed; nothing to compare with.")
else:
    peer = NMF(2, init="random", random_state=42)
    W_peer = peer.fit_transform(X)
    print(f"scikit-learn's mean squared error: {np.mean((X - W_peer @ peer.components_) ** 2):.6f}")
    print(f"largest difference in W: {np.abs(W_peer - rated.W).max():.1e}")
    print(f"largest difference in H: {np.abs(peer.components_ - rated.H).max():.1e}")
    assert np.allclose(W_peer, rated.W, atol=1e-3)
    assert np.allclose(peer.components_, rated.H, atol=1e-3)

# %% [markdown]
# ## 3. Reading two: what if a zero is a missing rating?
#
# People leave a cell empty because they have not seen the movie. Then the 7 zeros are not data, and only the 13 ratings
# may count. `missing_values=0` says so, and a small penalty `l2` keeps the factors from growing where few ratings hold
# them (section 6 shows what happens without it):
#
# $$
# \text{objective} = \tfrac12 \sum_{(i,j)\ \text{observed}} \bigl(X_{ij} - (WH)_{ij}\bigr)^2
# + \tfrac12\, \texttt{l2} \,\bigl(\lVert W \rVert^2 + \lVert H \rVert^2\bigr) .
# $$

# %%
observed = X > 0
missing = nmfcore.factorize(X, 2, missing_values=0, l2=0.1, random_state=42, solver=textbook, tol=1e-10, max_iter=2000)

print(missing.status.value, f"({missing.n_iter} iterations, {observed.sum()} ratings observed)")
display(pd.DataFrame(missing.W, users, features), pd.DataFrame(missing.H, features, movies))

# %% [markdown]
# The two readings side by side. The frames mark the seven cells that were never rated; in the third panel the numbers
# in them are predictions.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.9), layout="constrained")
same = {"columns": movies, "vmax": 6.0, "mark": ~observed}
plot.heatmap(X, rows=users, title="the table", fmt="{:.0f}", ax=axes[0], **same)
plot.heatmap(rated.reconstruct(), rows=[""] * 5, title="W H, zeros as ratings", ax=axes[1], **same)
plot.heatmap(missing.reconstruct(), rows=[""] * 5, title="W H, zeros as missing", ax=axes[2], **same)
plt.show()
# %%
readings = {"zeros as ratings": rated, "zeros as missing": missing}
pd.DataFrame(
    {
        name: {
            "root mean squared error, 13 observed cells": np.sqrt(np.mean((X - f.reconstruct())[observed] ** 2)),
            "root mean squared error, all 20 cells": np.sqrt(np.mean((X - f.reconstruct()) ** 2)),
            "mean of W H in the 7 other cells": f.reconstruct()[~observed].mean(),
        }
        for name, f in readings.items()
    }
)

# %% [markdown]
# Each reading wins by the measure it was asked to minimise, so the errors do not say which reading is right: that is
# a fact about how the table came to be. But the first is asked to answer 0 in each of the seven cells. Where it can, it
# does; elsewhere a low value is a compromise between the 0 it was shown and the ratings around it. Sorted by
# those values, "not seen" becomes "not liked". The second leaves the question open and answers from the ratings alone.
#
# That is what the two readings *mean*. It is not what they are *worth*: 13 ratings are too few to predict from, by
# either (exercise 2 measures it). On 100,000 ratings it can be measured: `nmfcore demo`, part 2.
#
# One prediction is larger than 5: nothing in the objective knows that the scale of ratings ends there.

# %%
empty = np.nonzero(~observed)
predictions = pd.DataFrame({name: f.predict(*empty) for name, f in readings.items()})
predictions.index = [f"{users[a]}, {movies[b]}" for a, b in zip(*empty, strict=True)]
predictions

# %% [markdown]
# ## 4. How does the solver work?
#
# HALS (hierarchical alternating least squares) moves one column of a factor at a time. With everything else fixed, the
# objective is a parabola in each entry, so its minimum over $W_{it} \ge 0$ has a formula:
#
# $$
# W_{it} \leftarrow \max\Bigl(0,\; W_{it} - \frac{G_{it}}{B_{it}}\Bigr), \qquad
# G = \bigl(M \circ (WH - X)\bigr) H^\top + \texttt{l2}\, W, \qquad
# B_{it} = \sum_j M_{ij} H_{tj}^2 + \texttt{l2},
# $$
#
# where $M$ is 1 at the cells that count and 0 elsewhere. $H$ moves by the same formula in the transposed problem
# $X^\top \approx H^\top W^\top$. Both readings are these ten lines: the first has $M = 1$ everywhere.


# %%
def hals(X, M, W, H, n_iter, l2=0.0):
    W, H = W.copy(), H.copy()
    for _ in range(n_iter):
        for A, B, Y, N in ((W, H, X, M), (H.T, W.T, X.T, M.T)):  # W given H, then H given the new W
            for t in range(A.shape[1]):
                gradient = (N * (A @ B - Y)) @ B[t] + l2 * A[:, t]
                curvature = N @ B[t] ** 2 + l2
                A[:, t] = np.maximum(0, A[:, t] - gradient / curvature)
    return W, H


# %% [markdown]
# Is this what `nmfcore` computes? Start both from the same factors and compare every iterate, in both readings.
# (`nmfcore.reference` holds such versions of every solver, with penalties and edge cases; the tests use them.)

# %%
rng = np.random.default_rng(0)
W0, H0 = rng.random((5, 2)), rng.random((2, 4))
everything = np.ones(X.shape)

largest = {}
for name, M, l2 in (("zeros as ratings", everything, 0.0), ("zeros as missing", observed, 0.1)):
    iterates = []
    nmfcore.factorize(
        X, 2, mask=M > 0, l2=l2, W=W0, H=H0, solver=textbook, tol=0, max_iter=30, callback=iterates.append
    )
    for state in iterates:
        for ours, theirs in zip(hals(X, M, W0, H0, state.n_iter, l2), (state.W, state.H), strict=True):
            assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-10)
            largest[name] = max(largest.get(name, 0.0), np.abs(ours - theirs).max())
    print(f"{name}: {len(iterates)} iterates compared, largest difference {largest[name]:.0e}")

# %% [markdown]
# ## 5. How do we know that it has converged?
#
# Below, HALS and the multiplicative updates (MU) of Lee and Seung start from the same factors.

# %%
start = {"W": W0, "H": H0, "max_iter": 1000}
fits = {
    "HALS, zeros as ratings": nmfcore.factorize(X, 2, solver=textbook, tol=1e-10, **start),
    "MU, zeros as ratings": nmfcore.factorize(X, 2, solver=nmfcore.solvers.MU(extrapolate=False), tol=1e-10, **start),
    "HALS, zeros as missing": nmfcore.factorize(X, 2, missing_values=0, l2=0.1, solver=textbook, tol=1e-10, **start),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
plot.convergence(fits, y="objective", ax=left)
plot.convergence(fits, y="kkt", ax=right)
left.set(xlim=(0, 40), ylim=(0, None), title="the objective looks finished early")
right.set(xlim=(0, 500), title="the KKT residual says how far it is")
right.legend().remove()
for ax in (left, right):
    ax.grid(alpha=0.3)
plt.show()


# %%
def fall(f):
    return f.history.objective[0] - f.history.objective


pd.DataFrame(
    {
        name: {
            "iterations": f.n_iter,
            "objective": f"{f.objective:.6f}",
            "KKT residual": f"{f.kkt:.0e}",
            "objective ever rose": bool((np.diff(f.history.objective) > 1e-12 * f.objective).any()),
            "share of the fall after 10 iterations": f"{fall(f)[10] / fall(f)[-1]:.2%}",
        }
        for name, f in fits.items()
    }
).T

# %% [markdown]
# With the gradient $G$ and the curvature $B$ of section 4, each entry is charged with
#
# $$
# \rho_{it} = \begin{cases} |G_{it}| & G_{it} < 0 \\ \min(G_{it},\, B_{it} W_{it}) & G_{it} \ge 0 \end{cases}
# \qquad\text{and}\qquad
# \texttt{kkt} = \max\left( \frac{\lVert \rho_W \rVert}{\lVert X - WH \rVert \lVert H \rVert},\,
#                           \frac{\lVert \rho_H \rVert}{\lVert X - WH \rVert \lVert W \rVert} \right),
# $$
#
# the columns of $W$ and rows of $H$ being balanced to equal norms first. KKT stands for Karush, Kuhn and Tucker, whose
# conditions a minimum meets. The residual is relative to $X - WH$: to what is left to explain. A value of 0 certifies a
# stationary point: no single entry can be moved, staying $\ge 0$, so that the objective falls. It does not certify that
# there is no lower point elsewhere, which is the next question. On the way the residual may rise (MU, near iteration
# 20); the objective never does.
#
# `nmfcore` reports the residual at no extra cost; written from the definition it is the same.

# %%
print(f"the engine, after 5 iterations:  {rated.history.kkt[5]:.12f}")
W5, H5 = nmfcore.factorize(X, 2, init="random", random_state=42, solver=textbook, tol=0, max_iter=5)
print(f"nmfcore.reference.kkt, the same: {nmfcore.reference.kkt(X, W5, H5):.12f}")

# %% [markdown]
# ## 6. What do several seeds change?
#
# Thirty random starts for each reading, and for the second also without `l2`.


# %%
def seeds(**settings):
    with warnings.catch_warnings():  # a fit that runs out of iterations shows in the table below,
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        warnings.simplefilter("ignore", nmfcore.PredictionWarning)  # and what no l2 leaves open further below
        return [
            nmfcore.factorize(
                X, 2, init="random", random_state=s, solver=textbook, tol=1e-8, max_iter=20_000, **settings
            )
            for s in range(30)
        ]


runs = {
    "zeros as ratings": seeds(),
    "zeros as missing, l2=0.1": seeds(missing_values=0, l2=0.1),
    "zeros as missing, l2=0": seeds(missing_values=0),
}
rows = [
    {"reading": name, "objective": round(f.objective, 4), "status": f.status.name, "iterations": f.n_iter}
    for name, fs in runs.items()
    for f in fs
]
pd.DataFrame(rows).groupby(["reading", "objective", "status"], sort=False).agg(
    seeds=("iterations", "size"), most_iterations=("iterations", "max")
)

# %% [markdown]
# In the first two rows all thirty seeds reach the same objective. Without `l2`, nearly all fit the 13 ratings exactly,
# and a rare one gets stuck far above and does not converge. Now compare the factors themselves.
#
# **Scale.** $W_{it} H_{tj} = (c\,W_{it})(H_{tj} / c)$ for any $c > 0$; so before comparing, give each row of $H$ norm
# 1. **Order.** Which feature comes first is chance; match each to the most correlated one of section 2.


# %%
def normalise(W, H):
    norms = np.linalg.norm(H, axis=1)
    return W * norms, H / norms[:, None]


def match(W, H, H_reference):
    correlation = np.corrcoef(H_reference, H)[: len(H), len(H) :]
    order = max(itertools.permutations(range(len(H))), key=lambda p: sum(correlation[t, k] for t, k in enumerate(p)))
    return W[:, order], H[list(order)]


def spread(Hs):
    return np.ptp(np.array(Hs), axis=0).max()


comparison, matched = {}, {}
for name, fs in runs.items():
    normalised = [normalise(f.W, f.H) for f in fs]
    matched[name] = [match(W, H, rated.H) for W, H in normalised]
    comparison[name] = {
        "H as it comes": spread([f.H for f in fs]),
        "... normalised": spread([H for _, H in normalised]),
        "... and matched": spread([H for _, H in matched[name]]),
        "W H": spread([f.reconstruct() for f in fs]),
    }
print("Largest difference between any two of 30 seeds, in any entry of")
pd.DataFrame(comparison).T.map("{:.1e}".format)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
jitter = np.linspace(-0.22, 0.22, 30)
for ax, name in zip(axes, ("zeros as ratings", "zeros as missing, l2=0.1"), strict=True):
    for t, marker in enumerate("o^"):
        for j in range(4):
            values = [H[t, j] for _, H in matched[name]]
            label = features[t] if j == 0 else None
            ax.plot(j + jitter, values, marker, ms=4.5, color=plot.COLOURS[t], mfc="none", label=label)
    ax.set(title=name, xticks=range(4), xticklabels=movies)
    ax.grid(axis="y", alpha=0.3)
axes[0].set_ylabel("entry of H (rows of norm 1, matched)")
axes[0].legend(title="a mark per seed")
plt.show()
# %% [markdown]
# On the left, scale and order were all that differed. The reason can be read off section 2: some user has only F1 and
# some user only F2, some movie has only F1 and another only F2. These zeros leave no room to mix the features.
#
# On the right the product $WH$ is the same for every seed (last column of the table) and yet the features are not.
# Zeros do not hold these factors on all sides, and any rotation $Q$ that keeps them $\ge 0$ gives
# $(WQ)(Q^\top H) = WH$ with the same penalty: a different, equally good answer. A rotation is indeed all that separates
# the first seed from the one that differs most from it:

# %%
one, *others = runs["zeros as missing, l2=0.1"]
others = [match(f.W, f.H, one.H) for f in others]
W2, H2 = max(others, key=lambda pair: np.abs(pair[1] - one.H).max())

U, _, Vt = np.linalg.svd(one.W.T @ W2)
Q = U @ Vt
print("Q =", np.round(Q, 3).tolist())
print(f"largest |W1 - W2|: {np.abs(one.W - W2).max():.3f}   largest |W1 Q - W2|:   {np.abs(one.W @ Q - W2).max():.0e}")
print(f"largest |H1 - H2|: {np.abs(one.H - H2).max():.3f}   largest |Qᵀ H1 - H2|: {np.abs(Q.T @ one.H - H2).max():.0e}")

# %% [markdown]
# And the predictions? With `l2` they agree; without it, look at the column of each cell.

# %%
figure, ax = plt.subplots(figsize=(10, 4.2), layout="constrained")
styles = {
    "zeros as missing, l2=0": (-0.16, "x", plot.COLOURS[1]),
    "zeros as missing, l2=0.1": (0.16, "o", plot.COLOURS[0]),
}
for name, (shift, marker, colour) in styles.items():
    P = np.array([f.predict(*empty) for f in runs[name] if f.converged])
    for k in range(len(predictions)):
        label = name.removeprefix("zeros as missing, ") if k == 0 else None
        x = k + shift + 0.4 * jitter[: len(P)]
        ax.plot(x, P[:, k], marker, ms=5, color=colour, mfc="none", label=label)
ax.axhspan(1, 5, color="0.92", zorder=0)
ax.text(6.45, 4.6, "the scale: 1 to 5", ha="right", va="top", color="0.3")
ax.set(yscale="log", ylabel="predicted rating", xticks=range(len(predictions)), xlim=(-0.5, 6.5))
ax.set_xticklabels([label.replace(", ", "\n") for label in predictions.index])
ax.yaxis.set_major_formatter("{x:g}")
ax.legend(title="a mark per converged seed", loc="upper right", ncols=2)
plt.show()
# %% [markdown]
# Three cells are the same for every converged seed even without `l2`; the four of Movie3 are not. The table
# itself says why. User1 and User3 rated Movie1, Movie2 and Movie4; in a matrix of rank 2 every 3 × 3 block has
# determinant 0, so one missing entry beside them is an equation with one unknown. Movie3 has one rating for two
# unknowns (its column of $H$): the data cannot say, and what `l2` gives there is the penalty's choice.

# %%
known, rest = [0, 2], [0, 1, 3]  # User1 and User3; Movie1, Movie2 and Movie4


def determinant(user, value):
    block = X[np.ix_([*known, user], rest)]
    block[2][block[2] == 0] = value
    return np.linalg.det(block)


exact = [f for f in runs["zeros as missing, l2=0"] if f.converged and f.objective < 1e-6]
for user, movie in ((1, 1), (3, 1), (4, 0)):
    at_zero, slope = determinant(user, 1e-9), determinant(user, 1.0) - determinant(user, 1e-9)
    fitted = [float(f.predict(user, movie)) for f in exact]
    print(
        f"{users[user]}, {movies[movie]}: the determinant is 0 at {-at_zero / slope:.4f}; "
        f"{len(exact)} seeds predict {min(fitted):.4f} to {max(fitted):.4f}"
    )

# %% [markdown]
# **So what may be said of a latent feature?**
#
# - "F1 weighs on Movie1" *describes a factorisation*. It describes the data only if it survives other seeds, once
#   scale and order are taken away. In reading one all of $H$ does. In reading two it holds that F1 is mostly Movie1,
#   but not whether F2 has anything of Movie1: some seeds say 0, some 0.13.
# - A feature has no name. Movie1 and Movie2 may share one because of genre, of age or by chance; the ratings do not
#   say.
# - Sizes can be compared within a row of $H$ or a column of $W$, not between features before scaling.
# - A prediction may be stable where the features are not (with `l2`), and stable only because of a penalty (Movie3).
#   Agreement between seeds is not evidence; ratings that were held out are (exercise 2).

# %% [markdown]
# ## 7. Exercises
#
# **1. No l2, one rating more.** Suppose User1 also gave Movie3 a 1. Without `l2`, which of the six predictions
# are now determined, and why? All fits below have a tiny KKT residual: what is different about those with an objective
# of about 3.4, and what would you do in practice?

# %%
X1 = X.copy()
X1[0, 2] = 1
cells = np.nonzero(X1 == 0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", nmfcore.PredictionWarning)  # which would tell
    fits1 = [
        nmfcore.factorize(X1, 2, missing_values=0, random_state=s, solver=textbook, tol=1e-4, max_iter=20_000)
        for s in range(6)
    ]
pd.DataFrame(
    [[f.objective, f"{f.kkt:.0e}", *f.predict(*cells)] for f in fits1],
    columns=["objective", "kkt", *(f"{users[a]} {movies[b]}" for a, b in zip(*cells, strict=True))],
).round(3)

# %% [markdown]
# **2. Rank 3.** Leave one rating out, fit the other twelve, predict it; do that for all thirteen, in both readings (in
# the first the cell left out becomes a 0). Which rank fits best, and which predicts best? Is any of them better than
# answering with the mean of the other twelve? One of the thirteen cannot be predicted at all in the second reading:
# which, and what is answered for it? Try other values of `l2`.


# %%
def fit(rank, mask, zeros_are_ratings):
    settings = {"random_state": 0, "init": "random", "solver": textbook, "tol": 1e-4, "max_iter": 100_000}
    if zeros_are_ratings:
        return nmfcore.factorize(np.where(mask, X, 0), rank, **settings)
    return nmfcore.factorize(X, rank, mask=mask, l2=0.1, **settings)


def left_out(rank, zeros_are_ratings):
    errors = []
    for a, b in np.argwhere(observed):
        mask = observed.copy()
        mask[a, b] = False
        errors.append(fit(rank, mask, zeros_are_ratings).predict(a, b) - X[a, b])
    return np.sqrt(np.mean(np.square(errors)))


def fitted(rank, zeros_are_ratings):
    residual = fit(rank, observed, zeros_are_ratings).reconstruct() - X
    return np.sqrt(np.mean(residual[observed] ** 2))


x = X[observed]
mean_of_the_others = (x.sum() - x) / (len(x) - 1)
print(f"error of the mean of the other twelve: {np.sqrt(np.mean((mean_of_the_others - x) ** 2)):.3f}")
pd.DataFrame(
    {
        f"rank {rank}": {
            f"zeros as {name}, error, {measure.__name__.replace('_', ' ')}": measure(rank, name == "ratings")
            for name in ("ratings", "missing")
            for measure in (fitted, left_out)
        }
        for rank in (1, 2, 3)
    }
)

# %% [markdown]
# The numbers show that no rank and no reading comes as close to a rating left out as the mean of the other twelve, and
# that a close fit promises nothing: at rank 2, zeros as missing fits the 13 ratings far better and predicts worse.

# %% [markdown]
# **3. Zeros that lock.** MU multiplies, so an entry of 0 stays 0. Here User5 starts with zeros, and both solvers run
# until the objective no longer falls. Which row tells you that one of them is not at a stationary point? Find the entry
# of the gradient that wants to grow (`nmfcore.reference.gradients`).

# %%
locked = W0.copy()
locked[4] = 0
solvers = {"MU": nmfcore.solvers.MU(extrapolate=False), "HALS": textbook}
fits3 = {
    name: nmfcore.factorize(X, 2, W=locked, H=H0, solver=solver, tol=0, max_iter=2000)
    for name, solver in solvers.items()
}
pd.DataFrame(
    {
        name: {
            "objective": f"{f.objective:.4f}",
            "KKT residual": f"{f.kkt:.0e}",
            "W of User5": f.W[4].round(4).tolist(),
        }
        for name, f in fits3.items()
    }
)
