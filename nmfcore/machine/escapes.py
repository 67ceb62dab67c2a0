"""Text that others wrote, shown so that it does nothing: ids and titles come from files that may come from anywhere.

A terminal obeys escape sequences, and turns lines around where bidirectional controls say so. A spreadsheet computes
what looks like a formula.

References
----------
Boucher and Anderson, "Trojan Source: invisible vulnerabilities", USENIX Security 2023 (bidirectional controls). OWASP,
"CSV injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import re
import shlex

# Control characters, line and paragraph separators, bidirectional controls, and halves of characters, which cannot be
# written at all.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_QUOTED = re.compile(r'[",;\t\r\n]')


def escaped(text: object) -> str:
    r"""Return a text with control characters as Python writes them.

    Examples
    --------
    >>> print(escaped("\x1b[31mred\r\u202e"))
    \x1b[31mred\r\u202e
    """
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], str(text))


def escaped_lines(text: str) -> str:
    r"""Return the same of several lines, whose ends are left as they are.

    Examples
    --------
    >>> print(escaped_lines("one\x1b[1m\ntwo\n"), end="")
    one\x1b[1m
    two
    """
    return "\n".join(map(escaped, text.split("\n")))


def typed(text: str) -> str:
    r"""Return a word of a command as it is typed; one with control characters as bash and zsh read it.

    Examples
    --------
    >>> print(typed("my model.npz"), typed("it's\x1b[1m"))
    'my model.npz' $'it\'s\u001b[1m'
    """
    if escaped(text) == text:
        return shlex.quote(text)
    said = {"\\": "\\\\", "'": "\\'"}
    word = "".join(said.get(c, c) if escaped(c) == c else f"\\u{ord(c):04x}" for c in text)
    return f"$'{word}'"


def cell(value: int | str, raw: bool = False) -> str:
    """Return an id or a title as a CSV file has it: a text that a spreadsheet would compute begins with a quote mark.

    Parameters
    ----------
    value : int or str
        What it is. A number is no formula.
    raw : bool
        Leave a text as it is: what is read back is ``value``.

    Examples
    --------
    >>> cell("=1+1"), cell("=1+1", raw=True), cell(-5), cell("Good, Bad")
    ("'=1+1", '=1+1', '-5', '"Good, Bad"')
    """
    text = str(value)
    if isinstance(value, str) and not raw and text.startswith(_FORMULA):
        text = f"'{text}"
    return '"{}"'.format(text.replace('"', '""')) if _QUOTED.search(text) else text
