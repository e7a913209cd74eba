"""What follows a run, trained or tracked: the leaderboard beside the store, and one line of advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenml import console
from greenml.errors import GreenMLError, StoreError
from greenml.files import whole

if TYPE_CHECKING:
    from greenml.store import Store

BOARD_LIMIT, BOARD_CONTESTS = 30, 4
"""Runs of each of the newest contests in one picture: more could not be read."""


def leave_board(store: Store) -> str | None:
    """`leaderboard.csv`, of all runs, and `leaderboard.png`, of the best, beside the store; what is missing, in words.

    Where two runs end in one second, the file of the one may lack the other, until the next run.
    """
    from greenml import exchange, plots
    from greenml.report import rows

    folder = store.path.parent
    try:
        exchange.write_csv(folder / "leaderboard.csv", map(console.plain, rows.board(store)), shared=True)
        chart = plots.leaderboard(rows.top(store, BOARD_LIMIT, BOARD_CONTESTS))
        if chart is not None:  # else no run has been tested yet
            with whole(folder / "leaderboard.png", shared=True) as partial:
                plots.save_png(chart, partial)
    except (ImportError, ValueError) as error:  # Altair says by ValueError that vl-convert is missing
        return f"no leaderboard was drawn: {error}"
    except (OSError, StoreError) as error:
        return f"the leaderboard beside the store was not written: {error}"
    return None


def say_advice(store: Store, contest: str, *, answers_only: bool = False) -> None:
    """One line on stderr: what the runs of this contest, the new one among them, recommend by now.

    A run that is over does not fail for want of advice. `answers_only` says nothing where nothing can be recommended.
    """
    from greenml.recommend import Asked, advise

    try:
        for advice in advise(store, Asked(contests=[contest])):
            if advice.is_answer or not answers_only:
                console.say(f"greenml recommend: {advice.sentence}")
    except GreenMLError as error:
        console.say(f"no recommendation: {error}")
