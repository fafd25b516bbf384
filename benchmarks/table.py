"""Tables as they stand in notes: GitHub's markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Value = str | float | int


def markdown(rows: Sequence[Mapping[str, Value]]) -> str:
    """Rows of one shape as a markdown table; floats with three significant places or more."""
    columns = list(rows[0]) if rows else []
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_cell(row[column]) for column in columns)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
    return str(value)
