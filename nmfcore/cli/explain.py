"""``nmfcore explain`` and ``nmfcore similar``: what a prediction is made of, and which items are alike."""

from __future__ import annotations

import argparse
from typing import Any

from nmfcore.cli.recommend import shortened, show_items, titles_of
from nmfcore.machine.escapes import escaped
from nmfcore.ratings import parse_id
from nmfcore.recommender import Recommender


def run(arguments: argparse.Namespace) -> None:
    """Explain one predicted rating."""
    model, titles = _opened(arguments)
    user = parse_id(arguments.user, model.ratings_.users, "user")
    item = parse_id(arguments.item, model.ratings_.items, "item")
    print(model.explain(user, item, n=arguments.n).describe(titles))


def run_similar(arguments: argparse.Namespace) -> None:
    """List the items that are like one."""
    model, titles = _opened(arguments)
    wanted = parse_id(arguments.item, model.ratings_.items, "item")
    items, similarities = model.similar_items(wanted, n=arguments.n)
    print(shortened(escaped(f"Like item {wanted}{f' {titles[wanted]}' if wanted in titles else ''}:")))
    if not items.size:
        print("  no item shares a feature with it")
        return
    show_items(items, (f"{similarity:6.3f}" for similarity in similarities), titles)


def _opened(arguments: argparse.Namespace) -> tuple[Recommender, dict[Any, str]]:
    """The model and the titles that the command line names."""
    if arguments.n < 1:
        raise ValueError(f"-n {arguments.n}: ask for 1 or more")
    model = Recommender.load(arguments.model)
    return model, titles_of(model, arguments.titles)
