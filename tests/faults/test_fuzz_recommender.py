"""A recommender through whatever may be done to it, in any order: the last good model always answers the same.

``make fuzz`` goes through many more orders than the test suite does.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import budget
import numpy as np
import pytest
from catalogue import Outcome
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nmfcore import Ratings, Recommender

SCALES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "stars": lambda rng, k: rng.integers(1, 6, k).astype(float),
    "counts": lambda rng, k: rng.poisson(3.0, k).astype(float),
    "one value": lambda rng, k: np.full(k, 3.0),
    "huge": lambda rng, k: 1e200 * rng.random(k),
    "tiny": lambda rng, k: 1e-200 * rng.random(k),
    "far up": lambda rng, k: 1e6 + rng.random(k),
}
SETTINGS: dict[str, list[Any]] = {
    "rank": [1, 2, 5],
    "l2": [None, 0.0, 0.1, 1e3],
    "prior": [None, 0.5, 30.0],
    "offsets": [True, False],
    "max_iter": [0, 1, 8, 40],
    "tol": [0.0, 1.25e-2],
}
BAD_SETTINGS = {"rank": 0, "l2": -1.0, "prior": 0.0, "offsets": "yes", "max_iter": 1.5, "tol": np.nan}
TOO_LARGE = re.compile(r"l2=.* for each rating is too large a penalty: .* Choose less than")


def named(positions: np.ndarray, texts: bool, letter: str) -> Any:
    return [f"{letter}{k}" for k in positions] if texts else positions + 10


@st.composite
def ratings(draw: Any, texts: bool) -> Ratings:
    """Some ratings of some of twelve users and nine items."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = rng.choice(12 * 9, draw(st.integers(1, 60)), replace=False)
    users, items = np.divmod(places, 9)
    values = SCALES[draw(st.sampled_from(sorted(SCALES)))](rng, places.size)
    return Ratings.from_triplets(named(users, texts, "u"), named(items, texts, "i"), values)


def answers(model: Recommender) -> tuple[np.ndarray, ...]:
    """What a model says of everything it knows."""
    known = model.ratings_
    users, items = np.repeat(known.users, known.items.size), np.tile(known.items, known.users.size)
    told = model.recommend(known.users.tolist(), n=4)
    explained = model.explain(known.users[0], known.items[-1])
    alike = model.similar_items(known.items[0])
    return (
        np.asarray(model.predict(users, items)),
        np.asarray(told["rating"] if hasattr(told, "columns") else told.ratings),
        explained.features,
        explained.contributions,
        np.array([explained.score]),
        alike.similarities,
    )


class AnyOrder(RuleBasedStateMachine):
    """One recommender, and what it has to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.expected: tuple[np.ndarray, ...] | None = None
        self.model, self.settings = Recommender(random_state=0), dict[str, Any]()
        self.texts = False

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def learnt(self) -> None:
        """The model is another one: ask what it answers from now on."""
        self.expected, self.settings = answers(self.model), {name: getattr(self.model, name) for name in SETTINGS}
        for answer in self.expected:
            assert np.isfinite(answer).all()

    def learns(self, fit: Callable[[], object], *of: Ratings) -> bool:
        """Whether a fit succeeds; a penalty that is huge beside tiny ratings is refused by name."""
        outcome = Outcome.of(fit)
        assert all(issubclass(kind, UserWarning) for kind in outcome.warned)
        if outcome.error is None:
            return True
        tiny = self.model.l2 and min(one.data.max() for one in of) < 1e-28 * self.model.l2
        if not tiny or not TOO_LARGE.match(str(outcome.error)):
            raise outcome.error
        return False

    def settings_of_the_fit(self) -> None:
        """Put back what a refused fit had changed: `partial_fit` and `save` refuse what does not fit the model."""
        for name, value in self.settings.items():
            setattr(self.model, name, value)

    @initialize(texts=st.booleans())
    def begin(self, texts: bool) -> None:
        self.texts = texts

    @invariant()
    def the_last_good_model_answers_the_same(self) -> None:
        if self.expected is None:
            with pytest.raises(RuntimeError, match="not fitted"):
                self.model.predict(1, 1)
            return
        for now, then in zip(answers(self.model), self.expected, strict=True):
            np.testing.assert_array_equal(now, then)

    # ---- what makes another model ----

    @rule(drawn=st.data(), changes=st.fixed_dictionaries({k: st.sampled_from(v) for k, v in SETTINGS.items()}))
    def fit(self, drawn: st.DataObject, changes: dict[str, Any]) -> None:
        for name, value in changes.items():
            setattr(self.model, name, value)
        given_ratings = drawn.draw(ratings(self.texts))
        if self.learns(lambda: self.model.fit(given_ratings), given_ratings):
            assert self.model.ratings_ is given_ratings
            self.learnt()

    @precondition(lambda self: self.expected is not None)
    @rule(drawn=st.data(), l2=st.sampled_from(SETTINGS["l2"]))
    def go_on(self, drawn: st.DataObject, l2: float | None) -> None:
        before = self.model.ratings_
        self.settings_of_the_fit()
        self.model.l2 = l2
        more = drawn.draw(ratings(self.texts))
        if self.learns(lambda: self.model.partial_fit(more), before, more):
            assert self.model.ratings_.nnz >= max(before.nnz, more.nnz)
            self.learnt()

    @precondition(lambda self: self.expected is not None)
    @rule(drawn=st.data(), after=st.integers(1, 4))
    def interrupt(self, drawn: st.DataObject, after: int) -> None:
        """Ctrl-C in a fit: the last complete estimate, or the model before."""

        def stop(state: Any) -> None:
            if state.n_iter == after:
                raise KeyboardInterrupt

        given_ratings, before = drawn.draw(ratings(self.texts)), self.model.factorization_

        def fit() -> None:
            with contextlib.suppress(KeyboardInterrupt):  # it may end before
                self.model.fit(given_ratings, callback=stop)
            assert self.model.factorization_.n_iter <= after

        if self.learns(fit, given_ratings):
            assert self.model.factorization_ is not before
            self.learnt()

    # ---- what makes the same model once more ----

    @precondition(lambda self: self.expected is not None)
    @rule(how=st.sampled_from([copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]))
    def copied(self, how: Callable[[Recommender], Recommender]) -> None:
        self.model = how(self.model)

    @precondition(lambda self: self.expected is not None)
    @rule()
    def saved_and_loaded(self) -> None:
        self.settings_of_the_fit()
        self.model.save(self.folder / "m.npz")
        self.model = Recommender.load(self.folder / "m.npz")

    # ---- what leaves it as it is ----

    @precondition(lambda self: self.expected is not None)
    @rule(values=st.lists(st.sampled_from([0.0, 1.0, 3.5, 5.0]), min_size=1, max_size=4), new=st.booleans())
    def ask_for_a_guest(self, values: list[float], new: bool) -> None:
        items = self.model.ratings_.items.tolist()
        given_ratings = dict(zip(items, values, strict=False))
        if new:
            given_ratings["nobody knows it" if self.texts else 10**6] = 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            guest = self.model.fold_in(given_ratings, unknown="average")
        assert np.isfinite(guest.predict("new", items)).all()
        assert np.isfinite(guest.recommend("new", n=3).ratings).all()

    @precondition(lambda self: self.expected is not None)
    @rule(name=st.sampled_from(sorted(BAD_SETTINGS)))
    def refuse_a_setting(self, name: str) -> None:
        self.settings_of_the_fit()
        good = getattr(self.model, name)
        setattr(self.model, name, BAD_SETTINGS[name])
        for call in (lambda: self.model.fit(self.model.ratings_), lambda: self.model.save(self.folder / "bad.npz")):
            with pytest.raises((TypeError, ValueError), match=name):
                call()
        assert not (self.folder / "bad.npz").exists()
        setattr(self.model, name, good)

    @rule(bad=st.sampled_from([None, [[1, 2]], np.ones((2, 2)), "ratings.csv"]))
    def refuse_what_are_no_ratings(self, bad: Any) -> None:
        for method in (self.model.fit, self.model.partial_fit):
            with pytest.raises(TypeError, match=rf"needs nmfcore.Ratings, not {type(bad).__name__}"):
                method(bad)

    @precondition(lambda self: self.expected is not None)
    @rule(drawn=st.data())
    def refuse_ids_of_the_other_kind(self, drawn: st.DataObject) -> None:
        self.settings_of_the_fit()
        with pytest.raises(TypeError, match="strings"):
            self.model.partial_fit(drawn.draw(ratings(not self.texts)))
        wrong = 10 if self.texts else "u0"
        for call in (self.model.recommend, lambda user: self.model.predict(user, self.model.ratings_.items[0])):
            with pytest.raises(KeyError, match="unknown user"):
                call(wrong)

    @precondition(lambda self: self.expected is not None)
    @rule()
    def refuse_what_is_unknown(self) -> None:
        nobody, item = ("zoe", "i99") if self.texts else (-5, -7)
        user = self.model.ratings_.users[0]
        for call, said in (
            (lambda: self.model.predict(nobody, item), "unknown user"),
            (lambda: self.model.explain(user, item), "unknown item"),
            (lambda: self.model.similar_items(item), "unknown item"),
            (lambda: self.model.recommend(user, items=[item]), "unknown item"),
            (lambda: self.model.fold_in({item: 3.0}), "unknown item"),
        ):
            with pytest.raises(KeyError, match=said):
                call()

    @precondition(lambda self: self.expected is not None)
    @rule(value=st.sampled_from([np.nan, np.inf, -1.0, "good"]))
    def refuse_bad_ratings_of_a_guest(self, value: Any) -> None:
        item = self.model.ratings_.items[0]
        with pytest.raises((TypeError, ValueError), match="rating"):
            self.model.fold_in({item.item(): value})
        with pytest.raises(ValueError, match="no ratings"):
            self.model.fold_in({})

    @precondition(lambda self: self.expected is not None)
    @rule(n=st.sampled_from([0, -1, 1.5]))
    def refuse_a_number(self, n: Any) -> None:
        user, item = self.model.ratings_.users[0], self.model.ratings_.items[0]
        for call in (
            lambda: self.model.recommend(user, n=n),
            lambda: self.model.explain(user, item, n=n),
            lambda: self.model.similar_items(item, n=n),
        ):
            with pytest.raises((TypeError, ValueError), match=f"n={n}"):
                call()

    @precondition(lambda self: self.expected is not None)
    @rule(content=st.binary(max_size=60))
    def refuse_files(self, content: bytes) -> None:
        self.settings_of_the_fit()
        (self.folder / "other").write_bytes(content)
        with pytest.raises(ValueError, match="not an nmfcore model"):
            Recommender.load(self.folder / "other")
        with pytest.raises(FileNotFoundError):
            self.model.save(self.folder / "nowhere" / "m.npz")
        with pytest.raises(IsADirectoryError):
            self.model.save(self.folder)


TestAnyOrder = pytest.mark.filterwarnings("error")(seed(budget.seed())(AnyOrder).TestCase)
TestAnyOrder.settings = settings(
    max_examples=budget.cases(25, 400),
    stateful_step_count=budget.cases(20, 50),
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
