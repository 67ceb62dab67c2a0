"""``nmfcore explain`` and ``nmfcore similar``: what a prediction is made of, and which items are alike."""

from __future__ import annotations

import argparse

from nmfcore.cli.recommend import shortened, titles_of
from nmfcore.ratings import Recommender, parse_id


def run(arguments: argparse.Namespace) -> None:
    """Explain one predicted rating."""
    _check(arguments)
    model = Recommender.load(arguments.model)
    titles = titles_of(model, arguments.titles)
    user, item = parse_id(arguments.user, model.ratings_.users), parse_id(arguments.item, model.ratings_.items)
    print(model.explain(user, item, n=arguments.n).describe(titles))


def run_similar(arguments: argparse.Namespace) -> None:
    """List the items that are like one."""
    _check(arguments)
    model = Recommender.load(arguments.model)
    titles = titles_of(model, arguments.titles)
    wanted = parse_id(arguments.item, model.ratings_.items)
    items, similarities = model.similar_items(wanted, n=arguments.n)
    print(shortened(f"Like item {wanted}{f' {titles[wanted]}' if wanted in titles else ''}:"))
    if not items.size:
        print("  no item shares a feature with it")
        return
    width = max(len(str(item)) for item in items.tolist())
    for item, similarity in zip(items.tolist(), similarities, strict=True):
        title = f"  {titles.get(item, '(no title)')}" if titles else ""
        print(shortened(f"  {similarity:6.3f}  {item!s:{width}}{title}".rstrip()))


def _check(arguments: argparse.Namespace) -> None:
    if arguments.n < 1:
        raise ValueError(f"-n {arguments.n}: ask for 1 or more")
