"""Titles: the three files of MovieLens, and lines that are none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nmfcore.ratings import read_titles


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        (
            'movieId,title,genres\r\n11,"Toy, ""The"" (1982)",Comedy|Drama\r\n\r\n12,Up,\r\n',
            {11: 'Toy, "The" (1982)', 12: "Up"},
        ),
        (
            "1|Misérables, Les (1995)|01-Jan-1995||x\n2|unknown||||\n",
            {1: "Misérables, Les (1995)", 2: "unknown"},
        ),
        ("0002844::Fantômas: 1 (1913)::Crime\n12::Up::\n", {"0002844": "Fantômas: 1 (1913)", "12": "Up"}),
        ("genre\tname\tid\nx\tUp\tb7\n", {"b7": "Up"}),
        ('1,"a\nb"\n2,c\n', {1: "a\nb", 2: "c"}),
        ("\ufeff1,a\n1,a", {1: "a"}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_formats(tmp_path: Path, text: str, titles: dict[object, str], encoding: str) -> None:
    path = tmp_path / "titles"
    path.write_bytes(text.encode("utf-8" if "\ufeff" in text else encoding))
    assert read_titles(path) == titles


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1::a\n\n2\n", "line 3: no title"),
        ("1::a\n::b\n", "line 2: no item id"),
        ("1,a\n2,b\n1,c\n", "line 3: item '1' already has the title 'a'"),
        ('1,a\n2,"b\n', "line 2: wrong quotes"),
        ("just text\n", "no separator"),
        ("\n\n", "no titles in this file"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "titles"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_titles(path)


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("ml-latest-small/movies.csv", {"header": 0}, 9125),
        ("ml-100k/u.item", {"sep": "|", "encoding": "latin-1", "header": None}, 1682),
        (
            "movietweetings-100k/movies.dat",
            {"sep": "::", "engine": "python", "header": None, "dtype": {0: str}},
            10506,
        ),
    ],
)
def test_real_files(data_dir: Path, name: str, options: dict[str, object], count: int) -> None:
    if not (data_dir / name).is_file():
        pytest.skip(f"{name} is not in {data_dir}")
    titles = read_titles(data_dir / name)
    assert len(titles) == count
    frame = pd.read_csv(data_dir / name, keep_default_na=False, **options)
    assert titles == dict(zip(frame.iloc[:, 0], frame.iloc[:, 1].str.strip(), strict=True))


def test_a_header_is_not_a_title(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_text("book_id,goodreads_book_id,title\n1,2767052,The Hunger Games\n")
    assert read_titles(path) == {1: "The Hunger Games"}
    for header, missing in [("book_id,goodreads_book_id,original", "title"), ("asin_id,price,title", "item id")]:
        path.write_text(header + "\nx1,b2,c3\n")
        with pytest.raises(ValueError, match=rf"line 1: the header has no column .* the {missing}; columns"):
            read_titles(path)
