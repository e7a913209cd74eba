"""What people call a contest: runs on one data set and split, judged and metered alike."""

from __future__ import annotations

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
    """The data set of each contest; what tells two on one data set apart, where there are two."""
    titles = [_title_of(row) for row in firsts]
    return [
        title
        if titles.count(title) == 1
        else f"{title} (data {(row['data_hash'] or 'not given')[:6]}, split {(row['split_hash'] or 'not given')[:6]})"
        for title, row in zip(titles, firsts, strict=True)
    ]


def _title_of(row: Row) -> str:
    better = "less" if row["goal"] == "min" else "more"
    judged = "" if row["metric"] == "accuracy" else f", by {row['metric']}: {better} is better"
    scope = ", metered as the share of its processes" if row["scope"] == "process" else ""
    return f"{row['dataset']}{judged}{scope}"
