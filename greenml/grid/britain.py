"""Great Britain as its grid operator divides it: NESO's regions, and the first halves of postcodes."""

from __future__ import annotations

import re

from greenml.errors import UsageError
from greenml.grid import atlas

NATIONS = {"GB-ENG": 15, "GB-SCT": 16, "GB-WLS": 17}
"""ISO 3166-2 -> NESO's region. Northern Ireland has none: its grid is Ireland's."""

_OUTWARD = re.compile(r"([A-Z]{1,2})[0-9][A-Z0-9]?")
_AREAS = (
    "AB AL B BA BB BD BH BL BN BR BS CA CB CF CH CM CO CR CT CV CW DA DD DE DG DH DL DN DT DY E EC EH EN EX FK FY G GL "
    "GU HA HD HG HP HR HS HU HX IG IP IV KA KT KW KY L LA LD LE LL LN LS LU M ME MK ML N NE NG NN NP NR NW OL OX PA PE "
    "PH PL PO PR RG RH RM S SA SE SG SK SL SM SN SO SP SR SS ST SW SY TA TD TF TN TQ TR TS TW UB W WA WC WD WF WN WR "
    "WS WV YO ZE"
)
"""What postcodes of Great Britain begin with."""


def names() -> dict[int, str]:
    """NESO's number of a region -> its name."""
    return {int(row.code.removeprefix("GB:")): row.name for row in atlas.of_kind("gb")}


def outward(word: str) -> str | None:
    """`gb:rg10` -> `RG10`, the first half of a postcode of Great Britain; None for what is none.

    Raises UsageError for those of Northern Ireland.
    """
    code = word.strip().upper().removeprefix("GB:").strip(" -_")
    shape = _OUTWARD.fullmatch(code)
    if shape and shape[1] == "BT":
        raise UsageError(f"`{word}` is in Northern Ireland, whose grid is Ireland's", hint="write `GB-NIR`")
    return code if shape and shape[1] in _AREAS.split() else None
