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
_WHITE_SPACE = re.compile(r"\s*+")


def last_boxed(text: str) -> str | None:
    r"""The stripped content of the box that begins last and holds something; "" where all are empty, None without any.

    `\boxed 9` (the unbraced form, up to the next space, dollar, brace or command) counts, a box that is never closed is
    no box, and of nested boxes the inner one begins last.
    """
    depth = 0
    open_boxes: list[tuple[int, int]] = []  # depth outside the box, start of its content
    last = empty = (-1, -1)
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
                box = (start, match.start() + depth - outside - 1)
                if _WHITE_SPACE.fullmatch(text, *box):
                    empty = box
                elif start > last[0]:
                    last = box
            depth = lowest
    found = last if last[0] >= 0 else empty
    return None if found[0] < 0 else _stripped(text[slice(*found)])


def _stripped(content: str) -> str:
    r"""Without white space around it; the space of a final `\ ` stays, as it belongs to its backslash."""
    kept = content.strip()
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return kept + " " if backslashes % 2 and content.rstrip() != content else kept


def braces_balance(text: str) -> bool:
    """Whether every unescaped brace of a text has its partner."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth < 0:
            return False
    return depth == 0
