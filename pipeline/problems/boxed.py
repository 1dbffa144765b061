r"""Boxed answers: what stands in the last `\boxed{...}` or `\fbox{...}` of a text, found by matching braces.

One pass without recursion, so that hostile text (megabytes of braces) costs time in proportion to its length.
"""

from __future__ import annotations

import re

# An escaped character is one token, so that \{ and \} are not braces and \\boxed is a line break and a word.
_TOKEN = re.compile(
    r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z]))\s*(?:(?P<brace>\{)|(?P<bare>[^\s${}\\]+))?"
    r"|\\.|\{+|\}+",
    re.DOTALL,
)


def last_boxed(text: str) -> str | None:
    r"""The stripped content of the box that begins last, or None where no box is complete.

    `\boxed 9` (the unbraced form, up to the next space, dollar, brace or command) counts, an empty box is an
    empty string, a box that is never closed is no box, and of nested boxes the inner one begins last.
    """
    depth = 0
    open_boxes: list[tuple[int, int]] = []  # depth outside the box, start of its content
    last = (-1, -1)
    for match in _TOKEN.finditer(text):
        token = match[0]
        if match["brace"]:
            open_boxes.append((depth, match.end()))
            depth += 1
        elif match["bare"]:
            last = match.span("bare")
        elif token[0] == "{":
            depth += len(token)
        elif token[0] == "}":
            lowest = depth - len(token)  # below zero after stray braces, which does no harm
            while open_boxes and open_boxes[-1][0] >= lowest:
                outside, start = open_boxes.pop()
                if start > last[0]:
                    last = (start, match.start() + depth - outside - 1)
            depth = lowest
    return None if last[0] < 0 else text[slice(*last)].strip()


def braces_balance(text: str) -> bool:
    """Whether every unescaped brace of a text has its partner."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth < 0:
            return False
    return depth == 0
