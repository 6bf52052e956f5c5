"""The table of trials in Markdown, for the plugin's README."""

from __future__ import annotations

import re
from collections import defaultdict

from engine_lm.trials.table import CHECKS, Table, short_reason

_MARKS = {"right": "✓", "refused": "–", "fault": "✗"}
_MARKED = re.compile(r"(<!-- models -->\n).*?(<!-- end of models -->)", re.DOTALL)


def refreshed(text: str, table: Table) -> str:
    """A Markdown text with the table between its marks."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{_tables(table)}\n{found[2]}", text)


def _tables(table: Table) -> str:
    opened = {n: cells for n, cells in table.types.items() if cells[CHECKS[0]].verdict == "right"}
    lines = [
        f"Tried with transformers {table.transformers}: ✓ right, – refused with a reason that "
        "`engine models show TYPE` tells, blank: not tried.",
        "",
        f"| type | {' | '.join(CHECKS[1:])} |",
        f"|---|{'---|' * (len(CHECKS) - 1)}",
    ]
    for name, cells in opened.items():
        marks = (_MARKS[cells[check].verdict] if check in cells else "" for check in CHECKS[1:])
        lines.append(f"| `{name}` | {' | '.join(marks)} |")
    reasons = defaultdict(list)
    for name, cells in table.types.items():
        if name not in opened:
            why = short_reason(name, cells[CHECKS[0]]).replace("|", "\\|")
            reasons[why].append(f"`{name}`")
    lines += ["", "| refused | why |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {why} |" for why, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"
