"""The file of a recommender: a factorization's with the ratings, their means and the settings beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from reprlib import repr as shortly
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nmfcore.api import archive, model_checks, result
from nmfcore.api.result import Factorization
from nmfcore.ratings.ids import Ids, text_array
from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender.baselines import UserItemMeans
from nmfcore.recommender.fitting import LEAST_PRIOR, MOST_L2, MOST_PRIOR, check_l2, check_largest
from nmfcore.recommender.model import Model, features_of, has_offsets

MEMBERS = result.MEMBERS | {
    "users": archive.Member(1, "iU", required=False),
    "items": archive.Member(1, "iU", required=False),
    "users_text": archive.Member(1, "u", required=False),
    "users_ends": archive.Member(1, "i", required=False),
    "items_text": archive.Member(1, "u", required=False),
    "items_ends": archive.Member(1, "i", required=False),
    "times": archive.Member(1, "i", required=False),
    "indptr": archive.Member(1, "i"),
    "indices": archive.Member(1, "i"),
    "ratings": archive.Member(1, "f"),
    "item_offsets": archive.Member(1, "f"),
    "levels": archive.Member(1, "f"),
}


MOST_SAID = 500  # characters of what is wrong
SETTINGS = ("rank", "l2", "prior", "offsets", "tol", "max_iter", "random_state")
OF_FIT = {  # what the factorization of any recommender was asked for
    "loss": "frobenius",
    "missing_values": "unstored",
    "l1": (0.0, 0.0),
    "l2_scaling": "count",
    "column_scale": None,
}


class Settings(Protocol):
    """What of a recommender is checked against the factors beside it."""

    rank: int
    l2: float | None
    prior: float | None
    offsets: bool


R = TypeVar("R", bound=Settings)


def save(path: str | os.PathLike[str], model: Model, settings: Mapping[str, Any]) -> None:
    """Write a model and the settings of its recommender: those that the model depends on as they were in the fit."""
    if settings["l2"] is not None:
        check_l2(settings["l2"], model.means)  # it may have been changed since the fit, and a file would not be read
    ratings = model.ratings
    check_largest(ratings)  # others' may be larger than those of the fit
    arrays, meta = result.pack(model.whole)
    arrays |= _packed("users", ratings.users) | _packed("items", ratings.items) | {"indptr": ratings.indptr}
    arrays |= {} if ratings.times is None else {"times": ratings.times}
    arrays |= {"indices": ratings.indices, "ratings": ratings.data, "item_offsets": model.means.item_offsets}
    arrays["levels"] = np.array(
        [model.means.mean, model.means.damping, *model.limits, model.level, model.lift, model.prior]
    )
    seed = settings["random_state"]  # a generator has moved on, and cannot be written
    seed = int(seed) if isinstance(seed, (int, np.integer)) else None
    prior = None if settings["prior"] is None else model.prior  # None: what is best for the ratings of a fit
    fixed = {"rank": model.rank, "prior": prior, "offsets": model.offsets, "random_state": seed}
    archive.write(path, arrays, {"kind": "recommender", "recommender": {**settings, **fixed}, **meta})


def load(path: str | os.PathLike[str], recommender: Callable[..., R], max_bytes: int) -> tuple[R, Model]:
    """Read what `save` wrote, the recommender made of its settings; a ValueError says what is wrong with the file."""
    arrays, meta = archive.read(path, MEMBERS, max_bytes=max_bytes)
    if meta.get("kind") != "recommender":
        raise ValueError(f"{os.fspath(path)}: not a model of ratings but {shortly(meta.get('kind'))}.")
    f = result.unpack(path, arrays, meta)
    try:
        entries = arrays["indptr"], arrays["indices"], arrays["ratings"], arrays.get("times")
        ratings = Ratings(_ids(arrays, "users"), _ids(arrays, "items"), *entries)
        check_largest(ratings)
        settings = recommender(**_settings_in(meta.get("recommender")))
        _check_parts(f, settings, ratings.shape, arrays["item_offsets"])
        levels = Levels.of(arrays["levels"], settings.prior)
        means = UserItemMeans(levels.mean, np.zeros(0), arrays["item_offsets"].astype(np.float64), levels.damping)
        levels.check(means)
        if settings.l2 is not None:
            check_l2(settings.l2, means)
        with np.errstate(over="ignore"):
            limits = levels.low, levels.high
            model = Model.of(ratings, f, means, levels.prior, limits, levels.level, levels.lift)
        if not model_checks.predicts(model.f.W, model.f.H):
            raise ValueError("W and H are so large that its predictions overflow")
    except (TypeError, ValueError) as error:
        said = str(error).removesuffix(".")
        said = said if len(said) <= MOST_SAID else f"{said[: MOST_SAID - 3]}..."  # a file may hold texts of any length
        raise ValueError(f"{os.fspath(path)}: damaged nmfcore model: {said}. Save the model again.") from error
    return settings, model


class Levels(NamedTuple):
    """The numbers of a model that are not factors."""

    mean: float
    damping: float
    low: float
    high: float
    level: float = 0.0
    lift: float = 0.0
    prior: float = 0.0

    @classmethod
    def of(cls, found: NDArray[Any], prior: float | None) -> Self:
        """As a file has them; ``prior`` is that of the settings, which must be the same if it is given.

        The first version had neither level nor lift, and a prior among its settings.
        """
        if found.size not in (4, 7):
            raise ValueError(f"there are {found.size} levels instead of 7")
        levels = cls(*found.tolist())
        levels = levels if found.size == 7 else levels._replace(prior=prior or 0.0)
        if prior not in (None, levels.prior):
            raise ValueError(f"a prior of {levels.prior} where its settings have {prior}")
        return levels

    def check(self, means: UserItemMeans) -> None:
        """Raise if no ratings have such numbers; the model's code relies on their ranges."""
        mean, damping, low, high, level, lift, prior = self
        rounding = 1e-9 * high  # of the mean, where all ratings are the same
        lowest, highest = max(low - level, 0.0), max(high - level, 0.0)  # those below the level count as 0
        if not (
            0 <= low <= high < np.inf and lowest - rounding <= mean <= highest + rounding and 0 <= damping < np.inf
        ):
            raise ValueError(f"a mean of {mean} between {low} and {high}, level {level}, damping {damping}")
        if not (level >= 0 and lift >= 0 and LEAST_PRIOR <= prior <= MOST_PRIOR):
            raise ValueError(f"a level of {level}, a lift of {lift}, a prior of {prior}")
        check_l2(lift, means)
        if not (np.abs(means.item_offsets) <= high - low + rounding).all():  # false with a NaN
            raise ValueError(f"an item's offset is not a number within {high - low}, the range of the ratings")


def _packed(name: str, ids: Ids) -> dict[str, NDArray[Any]]:
    """Ids as a file has them: integers, or the UTF-8 bytes of all texts and where each ends."""
    if ids.dtype.kind == "i":
        return {name: ids}
    texts = [text.encode("utf-8", "surrogatepass") for text in ids.tolist()]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    joined = b"".join(texts)
    if b"" in texts or b"\0" in joined:
        raise ValueError(
            f"not saved, as no such model would be loaded: an id among the {name} is empty or holds a NUL."
        )
    return {f"{name}_text": np.frombuffer(joined, np.uint8), f"{name}_ends": ends}


def _ids(arrays: Mapping[str, NDArray[Any]], name: str) -> Ids:
    """What `_packed` made of ids; a file of version 1 has texts of fixed width."""
    there = [member for member in (name, f"{name}_text", f"{name}_ends") if member in arrays]
    if there == [name]:
        if arrays[name].dtype.kind == "U" and (arrays[name] == "").any():
            raise ValueError(f"an id among the {name} is empty")
        return arrays[name]
    if there != [f"{name}_text", f"{name}_ends"] or arrays[f"{name}_text"].dtype != np.uint8:
        raise ValueError(f"the ids of its {name} are neither integers nor the bytes of texts ({there})")
    text, ends = arrays[f"{name}_text"].tobytes(), arrays[f"{name}_ends"]
    starts = np.concatenate(([0], ends[:-1]))
    if not ends.size or (ends <= starts).any() or ends[-1] != len(text) or b"\0" in text:
        raise ValueError(f"{name}_ends do not cut the {len(text)} bytes of {name}_text into texts")
    pieces = zip(starts.tolist(), ends.tolist(), strict=True)
    return text_array([text[a:b].decode("utf-8", "surrogatepass") for a, b in pieces])


def _settings_in(found: Any) -> dict[str, Any]:
    """The settings of a recommender, if they are all there and nothing else is."""
    if not isinstance(found, dict):
        raise ValueError(f"the settings of its recommender are {shortly(found)}")
    for name in SETTINGS:
        if name not in found:
            raise ValueError(f"the setting {name} of its recommender is missing")
    for name in found:
        if name not in SETTINGS:
            raise ValueError(f"a recommender has no setting {shortly(name)}")
    return found


def _check_parts(f: Factorization, settings: Settings, shape: tuple[int, int], item_offsets: NDArray[Any]) -> None:
    """Raise if parts of a file are not those of one model."""
    if (f.W.shape[0], f.H.shape[1]) != (shape[0] + 1, shape[1] + 1) or item_offsets.shape != shape[1:]:
        raise ValueError(f"W {f.W.shape}, H {f.H.shape}, offsets {item_offsets.shape} for ratings of {shape}")
    if (features_of(f), has_offsets(f)) != (settings.rank, settings.offsets):
        raise ValueError(f"factors of rank {f.rank} for rank={settings.rank}, offsets={settings.offsets}")
    for name, value in OF_FIT.items():
        if f.settings.get(name) != value:
            found = shortly(f.settings.get(name))
            raise ValueError(f"the setting {name} of its fit is {found} where ratings have {value!r}")
    of_users, of_items = f.settings["l2"]
    if of_users != of_items:
        raise ValueError(f"the setting l2 of its fit is {of_users:g} for users and {of_items:g} for items")
    if not of_users <= 1.001 * MOST_L2:
        raise ValueError(f"the setting l2 of its fit is {of_users:g}, more than {MOST_L2:g}")
