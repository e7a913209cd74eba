"""What an energy or a mass of CO2e is like, each with its source and year. Energy first: it needs no grid."""

from __future__ import annotations

from dataclasses import dataclass

from greenml.console import figure
from greenml.units import kwh

AT_MOST = 2
LEAST = 0.01
"""Of a unit: what is less of a thing says nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """A thing that people know, and what one of it takes: kWh or grams of CO2e, as the list says that it stands in."""

    one: float
    words: str
    """With the place of the number."""
    source: str
    """What says so, and its year."""


OF_WATTS = "the watt of the SI Brochure, 9th edition, 2019: 10 W x 1 h = 0.01 kWh"
ENERGY = (
    Likeness(
        one=kwh(335e3),
        words="boiling {} litres of water from 20 °C",
        source="IAPWS R6-95, 2018: 335 kJ a kilogram, 0.093 kWh a litre, without the kettle's losses",
    ),
    Likeness(one=0.01, words="a 10 W lamp for {} hours", source=OF_WATTS),
    Likeness(one=0.01 / 60, words="a 10 W lamp for {} minutes", source=OF_WATTS),
)
CO2 = (
    Likeness(
        one=244.0,
        words="driving {} km in an average petrol car",
        source="US EPA, Greenhouse Gas Equivalencies Calculator, 2026: 393 g a mile",
    ),
    Likeness(
        one=12.4,
        words="{} charges of a smartphone",
        source="US EPA, Greenhouse Gas Equivalencies Calculator, 2026: 12.4 g a charge, on the US grid",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """An amount of a known thing, in words, and where its size is from."""

    amount: float
    words: str
    source: str


def equivalences(energy_kwh: float | None, co2_g: float | None) -> list[Equivalence]:
    """At most two, one of the energy and one of the CO2e; none of what is unknown, or too little for a comparison."""
    found = [likest(energy_kwh, ENERGY), likest(co2_g, CO2)]
    return [equivalence for equivalence in found if equivalence][:AT_MOST]


def likest(value: float | None, things: tuple[Likeness, ...]) -> Equivalence | None:
    """The first thing of which there is one at least; else what there is most of."""
    if value is None:
        return None
    thing = next((thing for thing in things if value >= thing.one), min(things, key=lambda thing: thing.one))
    amount = value / thing.one
    if amount < LEAST:
        return None
    return Equivalence(amount=amount, words=thing.words.format(figure(amount, 2)), source=thing.source)
