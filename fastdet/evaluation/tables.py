"""Plain text tables for logs."""

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, footer: Sequence[object] = ()) -> str:
    """A table with ASCII rules; the first column is aligned left, the others right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows, *((footer,) if footer else ()))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(row: Sequence[str]) -> str:
        padded = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(padded) + " |"

    lines = [rule, line(cells[0]), rule, *(line(row) for row in cells[1 : len(rows) + 1]), rule]
    if footer:
        lines += [line(cells[-1]), rule]
    return "\n".join(lines)
