"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence


def markdown_table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    words: Collection[str] = (),
    padded: bool = False,
) -> str:
    """A table of texts: a line for the heads, one that tells where columns are set, and the rows.

    Args:
        heads: of the columns.
        rows: a text for each column.
        words: heads of the columns that are set left; all others hold numbers and are set right.
        padded: with spaces, so that columns stand below each other as text, too.

    Raises:
        ValueError: a row has another number of columns than the heads.
    """
    left = [head in words for head in heads]
    rules = ["---" if is_left else "---:" for is_left in left]
    lines = [list(heads), rules, *map(list, rows)]
    if uneven := next((line for line in lines if len(line) != len(heads)), None):
        raise ValueError(f"a row of {len(uneven)} columns below {len(heads)} heads: {uneven}")
    if padded:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines[1] = [
            "-" * width if is_left else "-" * (width - 1) + ":"
            for width, is_left in zip(widths, left, strict=True)
        ]
        lines = [
            [
                cell.ljust(width) if is_left else cell.rjust(width)
                for cell, width, is_left in zip(line, widths, left, strict=True)
            ]
            for line in lines
        ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
