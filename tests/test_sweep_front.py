"""The front, its hypervolume and the bound, each against a slower way to the same."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenml.sweep.front import MIN_CURVES, SIGMAS, SLACK, Bound, Point, front, hypervolume

COUNTS = st.integers(0, 12).map(lambda correct: correct / 12)  # few values, so that many tie
GRAMS = st.integers(0, 12).map(lambda power: 2.0 ** (power / 2))
POINTS = st.lists(st.builds(Point, COUNTS, GRAMS), max_size=14)
WHOLE = {"least_g": 1.0, "most_g": 64.0}


def naive(points, floor=-math.inf):
    learned = {point for point in points if point.accuracy > floor}
    return {point for point in learned if not any(other.beats(point) for other in learned)}


@given(POINTS, st.sampled_from([-math.inf, 0.0, 0.3]))
def test_the_front_is_what_nothing_beats_cheapest_first(points, floor):
    found = front(points, floor)

    assert set(found) == naive(points, floor)
    assert len(found) == len(set(found))
    assert found == sorted(found, key=lambda point: point.co2_g)


@given(POINTS, POINTS)
def test_the_front_of_fronts_is_the_front(some, others):
    assert front([*front(some), *front(others)]) == front([*some, *others])


@given(POINTS, st.randoms())
def test_the_order_of_points_does_not_matter(points, random):
    shuffled = list(points)
    random.shuffle(shuffled)

    assert front(shuffled) == front(points)


@pytest.mark.parametrize(
    ("point", "other", "beaten"),
    [
        ((0.6, 1.0), (0.5, 2.0), True),
        ((0.6, 1.0), (0.6, 2.0), True),
        ((0.6, 1.0), (0.5, 1.0), True),
        ((0.6, 1.0), (0.6, 1.0), False),
        ((0.6, 2.0), (0.5, 1.0), False),
        ((0.5, 1.0), (0.6, 2.0), False),
    ],
)
def test_a_point_beats_another(point, other, beaten):
    assert Point(*point).beats(Point(*other)) == beaten


def on_a_grid(points, *, floor):
    """The same by cells: between all levels and all costs that occur, those that some point covers."""
    inside = [point for point in points if point.co2_g <= 64]
    costs = sorted({0.0, math.log(64), *(min(max(math.log(p.co2_g), 0.0), math.log(64)) for p in inside)})
    levels = sorted({floor, 1.0, *(p.accuracy for p in inside if p.accuracy > floor)})
    area = 0.0
    for left, right in itertools.pairwise(costs):
        for low, high in itertools.pairwise(levels):
            if any(math.log(p.co2_g) <= left + 1e-12 and p.accuracy >= high for p in inside):
                area += (right - left) * (high - low)
    return area / (math.log(64) * (1 - floor))


@given(POINTS, st.sampled_from([0.0, 0.25, 0.5]))
def test_hypervolume_is_the_area_that_is_beaten(points, floor):
    assert hypervolume(points, **WHOLE, floor=floor) == pytest.approx(on_a_grid(points, floor=floor))


@given(POINTS, st.builds(Point, COUNTS, GRAMS))
def test_another_point_never_takes_hypervolume_away(points, more):
    before, after = hypervolume(points, **WHOLE), hypervolume([*points, more], **WHOLE)

    assert 0 <= before <= after + 1e-12
    assert after <= 1 + 1e-12


def test_hypervolume_has_its_ends():
    assert hypervolume([], **WHOLE) == 0
    assert hypervolume([Point(1.0, 1.0)], **WHOLE) == pytest.approx(1)
    assert hypervolume([Point(1.0, 8.0)], **WHOLE) == pytest.approx(0.5)  # by the logarithm
    assert hypervolume([Point(1.0, 64.0)], **WHOLE) == 0
    assert hypervolume([Point(0.1, 1.0)], **WHOLE, floor=0.1) == 0


def test_points_outside_count_by_what_lies_inside():
    assert hypervolume([Point(1.0, 0.01)], **WHOLE) == pytest.approx(1)
    assert hypervolume([Point(0.5, 8.0), Point(1.0, 1000.0)], **WHOLE) == pytest.approx(0.25)


# The bound

CHEAP = [Point(0.6, 1.0), Point(0.7, 2.0), Point(0.75, 3.0)]
CURVES = [[0.3, 0.4, 0.45], [0.2, 0.3, 0.35], [0.5, 0.55, 0.6], [0.4, 0.5, 0.6]] * 3


def bound(curves=CURVES, horizon=3, val_count=10_000):
    return Bound(curves=curves, horizon=horizon, val_count=val_count)


def test_a_training_that_cannot_gain_enough_is_called_off():
    assert not bound().may_reach([Point(0.2, 2.0)], CHEAP)


def test_nothing_is_called_off_while_few_went_as_far():
    assert bound(CURVES[: MIN_CURVES - 1]).may_reach([Point(0.1, 50.0)], CHEAP)
    short = [curve[:2] for curve in CURVES]
    assert bound([*short, *CURVES[: MIN_CURVES - 1]]).may_reach([Point(0.1, 50.0)], CHEAP)
    assert not bound([*short, *CURVES[:MIN_CURVES]]).may_reach([Point(0.1, 50.0)], CHEAP)


def test_nothing_is_called_off_while_there_is_no_front():
    assert bound().may_reach([Point(0.1, 50.0)], [])


def test_who_stands_above_the_front_goes_on():
    assert bound().may_reach([Point(0.8, 50.0)], CHEAP)


def test_a_cheap_training_goes_on_though_it_is_bad():
    """Nothing on the front costs as little as its next epoch will."""
    assert bound().may_reach([Point(0.1, 0.1), Point(0.1, 0.2)], CHEAP)


def test_a_training_is_called_off_no_sooner_than_the_bound_says():
    """The largest of twelve gains from epoch 1 to 3 is 0.2: with SLACK, and SIGMAS errors of 10,000 images, to 0.75."""

    def reaches(accuracy):
        error = SIGMAS * math.sqrt(accuracy * (1 - accuracy) / 10_000)
        return accuracy + (1 + SLACK / 12) * 0.2 + error >= 0.75

    edge = next(correct for correct in range(10_000) if reaches(correct / 10_000))
    assert bound().may_reach([Point((edge + 1) / 10_000, 5.0)], CHEAP)
    assert not bound().may_reach([Point((edge - 1) / 10_000, 5.0)], CHEAP)


def test_the_fewer_others_there_were_the_more_is_hoped_for():
    point = Point(0.75 - 0.2 * (1 + SLACK / 6), 5.0)

    assert bound(CURVES[:4], val_count=10**8).may_reach([point], CHEAP)
    assert not bound(CURVES, val_count=10**8).may_reach([point], CHEAP)


def test_a_training_that_rises_faster_than_any_before_it_goes_on():
    """0.1 an epoch so far: two more would do, though no other gained as much."""
    flat = [[0.5, 0.51, 0.52, 0.53, 0.54]] * 20
    own = Bound(curves=flat, horizon=5, val_count=10**8)
    rising = [Point(accuracy, 10.0 * epoch) for epoch, accuracy in enumerate([0.4, 0.5, 0.6], start=1)]
    risen = [Point(accuracy, 10.0 * epoch) for epoch, accuracy in enumerate([0.6, 0.6, 0.6], start=1)]

    assert own.may_reach(rising, CHEAP)
    assert not own.may_reach(risen, CHEAP)


def test_fewer_images_make_a_wider_bound():
    tight, wide = bound(val_count=100_000), bound(val_count=50)
    point = Point(0.75 - (1 + SLACK / 12) * 0.2 - 0.02, 5.0)

    assert not tight.may_reach([point], CHEAP)
    assert wide.may_reach([point], CHEAP)


@given(
    st.lists(st.lists(COUNTS, min_size=1, max_size=5), max_size=8),
    st.lists(COUNTS, min_size=1, max_size=5),
    POINTS,
)
def test_a_training_that_gains_no_more_than_others_did_is_never_called_off_wrongly(curves, accuracies, others):
    """The promise: if no gain is larger than one seen before, every point that would be on the front is waited for."""
    points = [Point(accuracy, 10.0 * epoch) for epoch, accuracy in enumerate(accuracies, start=1)]
    own, best = bound([*curves, accuracies], horizon=len(points)), front(others)

    for done in range(1, len(points)):
        if not own.may_reach(points[:done], best):
            assert not any(point in front([*others, *points]) and point not in others for point in points[done:])
