"""What the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The first example compiles; and CI should meet the same examples as the developer did.
hypothesis.settings.register_profile("nmfcore", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("nmfcore")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fuzz: draws its cases, of which there are more with NMFCORE_FUZZ=long")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets: ``NMFCORE_DATA``, else ``../shared/data`` beside the project."""
    folder = Path(os.environ.get("NMFCORE_DATA") or Path(__file__).parents[1] / ".." / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set NMFCORE_DATA")
    return folder
