"""What a command finds: as text while it is found, or at the end, every figure of it, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


class Report:
    """Figures by name, and the text about them.

    Parameters
    ----------
    as_json : bool
        Whether the figures are printed, all at once by `close`, instead of the text.

    Attributes
    ----------
    figures : dict
        What was found: numbers, texts, lists and dicts of these.

    Examples
    --------
    >>> report = Report(as_json=True)
    >>> report.say("Two numbers.")
    >>> report.figures["errors"] = {"rmse": 0.5, "mae": float("nan")}
    >>> report.close()
    {
      "errors": {
        "rmse": 0.5,
        "mae": null
      }
    }
    """

    def __init__(self, as_json: bool) -> None:
        self.figures: dict[str, Any] = {}
        self._as_json = as_json

    def say(self, text: str) -> None:
        """Print a line, unless there will be JSON."""
        if not self._as_json:
            print(text)

    def close(self) -> None:
        """Print the figures, if they are asked for; what is not a finite number is null, which JSON has a word for."""
        if self._as_json:
            print(json.dumps(_plain(self.figures), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
