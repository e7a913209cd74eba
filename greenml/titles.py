"""What people call a contest: runs on one data set and split, judged and metered alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Mapping[str, Any]


def by_contest(rows: Iterable[Row]) -> dict[str, str]:
    """Contest -> its title, in the order in which rows of `leaderboard` first name one."""
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(row["contest"], row)
    return dict(zip(firsts, titles_of([*firsts.values()]), strict=True))


def titles_of(firsts: Sequence[Row]) -> list[str]:
    """The data set of each contest, of which a row each is given, and how it is judged and metered where that is not as
    usual; where that leaves two alike, what tells them apart."""
    titles = [_title_of(row) for row in firsts]
    often = Counter(titles)
    return [
        title if often[title] == 1 else f"{title} ({_data_of(row)})" for title, row in zip(titles, firsts, strict=True)
    ]


def _title_of(row: Row) -> str:
    better = "less" if row["goal"] == "min" else "more"
    judged = "" if row["metric"] == "accuracy" else f", by {row['metric']} ({better} is better)"
    scope = ", metered as the share of its processes" if row["scope"] == "process" else ""
    return f"{row['dataset']}{judged}{scope}"


def _data_of(row: Row) -> str:
    data, split = row["data_hash"], row["split_hash"]
    return f"data {data[:6]}, split {split[:6]}" if data and split else "data not given"
