"""Under which conditions a machine may train: a YAML file -> rules, and what they say of a moment, a place, a run.

    >>> judge(read(Path("policy.yaml")), Facts(now=now(), g_per_kwh=512.0, intensity_status="actual")).allowed
    False

A rule is kept, broken, or cannot be judged; what that means is for `when_unknown` to say.
Who asks waits, pauses or refuses.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from greenml import config as configs
from greenml import units
from greenml.errors import PolicyError, UsageError, nearest
from greenml.grid import regions
from greenml.records import Judgement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from zoneinfo import ZoneInfo

    from greenml.grid.series import Series, Status, Step

WhenUnknown = Literal["forbid", "allow"]
OnViolation = Literal["wait", "refuse"]
Judged = Literal["kept", "broken", "unknown"]

VARIABLE = "GREENML_POLICY"
"""Names the policy of an environment."""
FAR = timedelta(days=8)
"""How far ahead it is looked for when it would be allowed: a week of hours, and the budgets of the next one."""
EXAMPLE = "configs/policy.yaml"
DEFAULTS: dict[str, Any] = {
    "name": None,
    "never_above": None,
    "when_unknown": "forbid",
    "hours": [],
    "time_zone": None,
    "regions": [],
    "budget_per_week": {},
    "on_violation": "wait",
}
"""Every key of a file, and what holds where it is not there: no rule at all. `configs/policy.yaml` explains them."""
BUDGETS = {"energy": units.JOULES, "co2": units.GRAMS}
SHAPES = {
    "name": "as in `name: nights only`",
    "never_above": "g CO2e per kWh, as in 450",
    "when_unknown": f"one of {', '.join(get_args(WhenUnknown))}",
    "hours": 'as in ["22:00-06:00", "mon-fri 18:00-08:00", "weekends"]',
    "time_zone": "as in Europe/Berlin",
    "regions": "as in [SE, FR, IN-TN]",
    "budget_per_week": "as in {energy: 5kWh, co2: 2kg}",
    "on_violation": f"one of {', '.join(get_args(OnViolation))}",
}

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SEVERAL_DAYS = {"weekdays": range(5), "weekends": range(5, 7)}
DAY_MIN = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Times of day on some days of the week, as the clock on the wall shows them."""

    text: str
    """As the file has it."""
    days: frozenset[int] = frozenset(range(7))
    """On which it begins; Monday is 0."""
    start_min: int = 0
    """Minutes after midnight; `end_min`, which is no longer part of it, may lie in the next day."""
    end_min: int = DAY_MIN

    def holds(self, local: datetime) -> bool:
        """Whether it holds at a local time."""
        minute = local.hour * 60 + local.minute
        return any(
            (local.weekday() - days_ago) % 7 in self.days
            and self.start_min <= minute + days_ago * DAY_MIN < self.end_min
            for days_ago in (0, 1)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of one file; `configs/policy.yaml` explains the keys. What is None or empty is no rule."""

    name: str
    file: str
    never_above: float | None = None
    """g CO2e per kWh, the average of all plants; itself still allowed."""
    when_unknown: WhenUnknown = "forbid"
    hours: tuple[Span, ...] = ()
    time_zone: str | None = None
    regions: tuple[str, ...] = ()
    """As the file has them; compared by what they stand for."""
    energy_per_week_j: float | None = None
    co2_per_week_g: float | None = None
    on_violation: OnViolation = "wait"

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone of hours and weeks; None is the system's, as `astimezone` has it."""
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.time_zone) if self.time_zone else None

    @property
    def has_budget(self) -> bool:
        """Whether it asks what was used since the week began."""
        return self.energy_per_week_j is not None or self.co2_per_week_g is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a policy is asked about. None is unknown."""

    now: datetime
    """UTC, naive."""
    g_per_kwh: float | None = None
    """The average intensity at this moment; never the marginal one."""
    intensity_status: Status | None = None
    region: str | None = None
    used_j: float | None = None
    """What all runs have used since the week began (`week`), this one included; as `used_g`, in grams of CO2e."""
    used_g: float | None = None
    wants_j: float | None = None
    """What this run is still going to use, where somebody knows; as `wants_g`."""
    wants_g: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """What one rule says."""

    rule: str
    """The key of the file: `never_above`, `budget_per_week.energy`."""
    limit: float | str
    value: float | str | None
    """What is held against the limit; None where it is unknown."""
    unit: str | None
    """Of both: `g/kWh`, `J`, `g`; of hours the time zone."""
    status: Judged
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy says of one moment: one entry for each of its rules."""

    policy: Policy
    allowed: bool
    rules: tuple[RuleVerdict, ...]

    @property
    def blocking(self) -> tuple[RuleVerdict, ...]:
        """The rules because of which it is not allowed."""
        return tuple(rule for rule in self.rules if _blocks(rule, self.policy))


def read(file: Path) -> Policy:
    """A policy file; a bare name may be the one that ships. Raises UsageError."""
    values = configs.read_yaml(file, known=DEFAULTS, example=EXAMPLE, kind="policy")
    return validate(values, file=str(file), name=file.stem)


def chosen(file: str | None = None) -> Policy | None:
    """The policy of this file, or else that of the environment; None where neither names one. Raises UsageError."""
    named = file or os.environ.get(VARIABLE)
    return read(Path(named)) if named else None


def validate(values: Mapping[str, Any], *, file: str, name: str) -> Policy:
    """What a file holds -> a policy, called `name` where it has no name of its own. Raises UsageError, which names
    `file` and the key."""
    checked = _checked(values, file)
    budget = {key: _budget(key, text, file) for key, text in checked.budget_per_week.items() if text is not None}
    return Policy(
        name=checked.name or name,
        file=file,
        never_above=checked.never_above,
        when_unknown=checked.when_unknown,
        hours=tuple(_span(text, f"{file}: `hours`") for text in checked.hours),
        time_zone=_time_zone(checked.time_zone, file),
        regions=tuple(_region(word, file) for word in checked.regions),
        energy_per_week_j=budget.get("energy"),
        co2_per_week_g=budget.get("co2"),
        on_violation=checked.on_violation,
    )


def judge(policy: Policy, facts: Facts) -> Verdict:
    """Rule by rule. Raises UsageError where the region of the facts is none."""
    rules = tuple(_rules(policy, facts))
    return Verdict(policy=policy, rules=rules, allowed=not any(_blocks(rule, policy) for rule in rules))


def next_allowed(
    policy: Policy, now: datetime, series: Series | None, until: datetime, facts: Facts | None = None
) -> datetime | None:
    """The first moment in [now, until) at which hours and intensity allow it; None where there is none, as far as is
    known.

    `facts` say what else holds `now`: a place that is not allowed never will be, a spent budget is whole again when the
    next week begins, and an intensity that was just seen outweighs what `series` says of the same step. `series` are
    averages.
    """
    start = now
    if facts is not None:
        verdict = judge(policy, facts)
        if verdict.allowed:
            return now if now < until else None
        later = _passes(verdict, facts, now, series)
        if later is None:
            return None
        start = later
    return next((begin for begin, _ in windows(policy, start, until, series)), None)


def windows(
    policy: Policy, start: datetime, end: datetime, series: Series | None = None
) -> Iterator[tuple[datetime, datetime]]:
    """The stretches of [start, end) in which hours and intensity allow it, each as long as it can be, in order.

    Raises ValueError for a series of marginal intensities, which may steer but are not what `never_above` limits.
    """
    if series is not None and series.kind != "average":
        raise ValueError("`never_above` limits average intensities, not marginal ones")
    inner = (edge for edge in (*_clock_edges(policy, start, end), *_step_edges(series)) if start < edge < end)
    opened: datetime | None = None
    # Between two edges nothing changes: what holds at the first holds until the second.
    for edge, _ in pairwise([*sorted({start, *inner}), end] if start < end else []):
        if not _open(policy, edge, series):
            if opened is not None:
                yield opened, edge
            opened = None
        elif opened is None:
            opened = edge
    if opened is not None:
        yield opened, end


def week(policy: Policy, now: datetime) -> tuple[datetime, datetime]:
    """The ISO week of the policy's time zone that holds `now`, from Monday, 00:00, to the next: naive UTC."""
    today = _local(policy, now).date()
    monday = datetime.combine(today - timedelta(days=today.weekday()), time())
    return _utc(policy, monday), _utc(policy, monday + timedelta(days=7))


def refusal(verdict: Verdict, allowed_from: datetime | None = None) -> PolicyError:
    """Why it is not allowed, and since when it would be, where that is known (naive UTC)."""
    policy = verdict.policy
    keys = ", ".join(f"`{rule.rule}`" for rule in verdict.blocking)
    where = f"see {keys} in {policy.file}"
    if allowed_from is not None:
        where = f"allowed from {_date(policy, allowed_from)} on; {where}"
    elif all(rule.status == "unknown" for rule in verdict.blocking):
        where = f"make it known, or set `when_unknown: allow`; {where}"
    words = "; ".join(rule.words for rule in verdict.blocking)
    return PolicyError(f"the policy `{policy.name}` does not allow it: {words}", hint=where)


def is_in_vain(policy: Policy, facts: Facts, series: Series, until: datetime) -> bool:
    """Whether waiting until then will not help, for all that is known: in another place, for a run that wants more than
    a whole week's, at an intensity that is too high all along `series` (averages)."""
    verdict = judge(policy, facts)
    if verdict.allowed or next_allowed(policy, facts.now, series, until, facts) is not None:
        return False
    for rule in verdict.blocking:
        wants = facts.wants_j if rule.unit == "J" else facts.wants_g
        is_budget = rule.rule.startswith("budget_per_week") and isinstance(rule.limit, float)
        if rule.rule == "regions" or (is_budget and (wants or 0.0) > float(rule.limit)):
            return True
    return policy.never_above is None or series.covers(facts.now, until)


def judgements(verdict: Verdict, *, run_id: str, command: str, decided_at: datetime, outcome: str) -> list[Judgement]:
    """A row a rule, for the store and the table of compliance; of a policy without rules one that says so."""

    def said(status: Judged, words: str, of: RuleVerdict | None) -> Judgement:
        return Judgement(
            run_id=run_id,
            decided_at=decided_at,
            command=command,
            policy=verdict.policy.name,
            rule=of.rule if of else "none",
            bound=_plain(of.limit) if of else None,
            value=None if of is None or of.value is None else _plain(of.value),
            unit=of.unit if of else None,
            status=status,
            words=words,
            outcome=outcome,
        )

    rules = [said(rule.status, rule.words, rule) for rule in verdict.rules]
    return rules or [said("kept", "the policy has no rules", None)]


def _checked(values: Mapping[str, Any], file: str) -> Any:
    """The keys with the types that they are to have; what is null is as if it were not there."""
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

    types: dict[str, Any] = {
        "name": str | None,
        "never_above": float | None,
        "when_unknown": WhenUnknown,
        "hours": list[str],
        "time_zone": str | None,
        "regions": list[str],
        "budget_per_week": dict[Literal["energy", "co2"], str | None],
        "on_violation": OnViolation,
    }
    # Strict, since `yes` is 1.0 otherwise.
    bounds: dict[str, Any] = {"never_above": {"strict": True, "gt": 0, "le": 100_000, "allow_inf_nan": False}}
    keys: dict[str, Any] = {key: (types[key], Field(DEFAULTS[key], **bounds.get(key, {}))) for key in DEFAULTS}
    given = {key: value for key, value in values.items() if value is not None}
    for key in ("hours", "regions"):  # one of them needs no brackets
        if isinstance(given.get(key), str):
            given[key] = [given[key]]
    model: type[BaseModel] = create_model("Policy", __config__=ConfigDict(coerce_numbers_to_str=True), **keys)
    try:
        return model(**given)
    except ValidationError as error:
        raise _complaint(error.errors()[0], file) from None


def _complaint(first: Any, file: str) -> UsageError:
    """What pydantic found first, in words."""
    key, *inside = first["loc"]
    if inside[1:] == ["[key]"]:
        hint = nearest(str(inside[0]), BUDGETS, otherwise=f"known keys: {', '.join(BUDGETS)}")
        return UsageError(f"{file}: `{key}`: unknown key `{inside[0]}`", hint=hint)
    if key == "regions" and isinstance(first["input"], bool):
        word, read_as = ("ON", "true") if first["input"] else ("NO", "false")
        return UsageError(f"{file}: `regions`: YAML reads {word} as {read_as}", hint=f'write "{word}", in quotes')
    said = first["msg"].replace("Input should", "should")
    return UsageError(f"{file}: `{key}`: {said}, not {configs.shorten(first['input'])}", hint=SHAPES[str(key)])


def _budget(key: str, text: str, file: str) -> float:
    try:
        return units.parse_quantity(text, BUDGETS[key])
    except ValueError as error:
        raise UsageError(f"{file}: `budget_per_week`: `{key}`: {error}", hint=SHAPES["budget_per_week"]) from None


def _time_zone(name: str | None, file: str) -> str | None:
    from zoneinfo import ZoneInfo, available_timezones

    if name is None:
        return None
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # how zoneinfo says unknown, no name at all, and a folder such as `Europe`
        hint = nearest(name, available_timezones(), otherwise=SHAPES["time_zone"])
        raise UsageError(f"{file}: `time_zone`: unknown time zone `{name}`", hint=hint) from None


def _region(word: str, file: str) -> str:
    try:
        regions.find(word)
    except UsageError as error:
        raise UsageError(f"{file}: `regions`: {error}", hint=error.hint) from None
    return word


_SPAN = re.compile(r"(?P<days>[a-z][a-z\s,-]*?)?\s*((?P<start>\d\d?:\d\d)\s*-\s*(?P<end>\d\d?:\d\d))?")


def _span(text: str, where: str) -> Span:
    """ "mon-fri 18:00-08:00", "weekends", "22:00-06:00" -> a span."""
    said = _SPAN.fullmatch(text.strip().lower())
    if not text.strip() or said is None:
        raise UsageError(f"{where}: `{text}` is neither days nor times", hint=SHAPES["hours"])
    days = frozenset(_days(said["days"], where)) if said["days"] else frozenset(range(7))
    if said["start"] is None:
        return Span(text=text.strip(), days=days)
    start_min, end_min = _minute(said["start"], where), _minute(said["end"], where)
    if start_min in (end_min, DAY_MIN):
        raise UsageError(f"{where}: `{text}` holds no time", hint="a whole day is 00:00-24:00")
    if end_min < start_min:
        end_min += DAY_MIN
    return Span(text=text.strip(), days=days, start_min=start_min, end_min=end_min)


def _days(text: str, where: str) -> Iterator[int]:
    for part in text.split(","):
        if part.strip() in SEVERAL_DAYS:
            yield from SEVERAL_DAYS[part.strip()]
            continue
        first, *last = (_day(word.strip(), where) for word in part.split("-", 1))
        yield from ((first + i) % 7 for i in range((last[0] - first) % 7 + 1 if last else 1))


def _day(word: str, where: str) -> int:
    for names in (DAYS, LONG_DAYS):
        if word in names:
            return names.index(word)
    hint = nearest(word, (*DAYS, *SEVERAL_DAYS), otherwise=f"days are {', '.join((*DAYS, *SEVERAL_DAYS))}")
    raise UsageError(f"{where}: unknown day `{word}`", hint=hint)


def _minute(text: str, where: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > DAY_MIN:
        raise UsageError(f"{where}: there is no time `{text}`", hint="times go from 00:00 to 24:00")
    return hour * 60 + minute


def _rules(policy: Policy, facts: Facts) -> Iterator[RuleVerdict]:
    if policy.never_above is not None:
        yield _intensity_rule(policy.never_above, facts)
    if policy.hours:
        yield _hours_rule(policy, facts.now)
    if policy.regions:
        yield _regions_rule(policy.regions, facts.region)
    if policy.energy_per_week_j is not None:
        limit = policy.energy_per_week_j
        yield _budget_rule("energy", limit, facts.used_j, facts.wants_j, "J", units.format_energy)
    if policy.co2_per_week_g is not None:
        limit = policy.co2_per_week_g
        yield _budget_rule("co2", limit, facts.used_g, facts.wants_g, "g", units.format_mass)


def _intensity_rule(never_above: float, facts: Facts) -> RuleVerdict:
    g_per_kwh = facts.g_per_kwh
    limit = f"{never_above:.6g} g/kWh"
    status: Judged = "unknown" if g_per_kwh is None else "kept" if g_per_kwh <= never_above else "broken"
    if g_per_kwh is None:
        words = f"the intensity is unknown, at most {limit} is allowed"
    else:
        known = f" ({facts.intensity_status})" if facts.intensity_status else ""
        shown = f"{g_per_kwh:.4g}"
        if status == "broken" and float(shown) <= never_above:
            shown = _plain(g_per_kwh)
        words = f"{shown} g/kWh{known} is {'not ' if status == 'kept' else ''}above {limit}"
    return RuleVerdict(rule="never_above", limit=never_above, value=g_per_kwh, unit="g/kWh", status=status, words=words)


def _hours_rule(policy: Policy, now: datetime) -> RuleVerdict:
    local = _local(policy, now)
    clock = f"{DAYS[local.weekday()].title()} {local:%H:%M}"
    limit = ", ".join(span.text for span in policy.hours)
    status: Judged = "kept" if _in_hours(policy, now) else "broken"
    return RuleVerdict(
        rule="hours",
        limit=limit,
        value=clock,
        unit=policy.time_zone or "local time",
        status=status,
        words=f"{clock} is {'within' if status == 'kept' else 'outside of'} {limit}",
    )


def _regions_rule(allowed: tuple[str, ...], region: str | None) -> RuleVerdict:
    limit = ", ".join(allowed)
    if region is None:
        status: Judged = "unknown"
        words = f"the region is unknown, {limit} {'are' if allowed[1:] else 'is'} allowed"
    else:
        place = regions.find(region)
        status = "kept" if any(_lies_in(place, regions.find(word)) for word in allowed) else "broken"
        words = f"{region} is {'' if status == 'kept' else 'not '}in {limit}"
    return RuleVerdict(rule="regions", limit=limit, value=region, unit=None, status=status, words=words)


def _lies_in(place: regions.Place, other: regions.Place) -> bool:
    """Whether all that is said of `other` is true of `place`: Stockholm's zone lies in Sweden, not the other way."""
    if place.country != other.country:
        return False
    parts = ("subdivision", "zone", "cloud")
    return all(getattr(other, part) in (None, getattr(place, part)) for part in parts)


def _budget_rule(
    key: str, limit: float, used: float | None, wants: float | None, unit: str, shown: Callable[[float | None], str]
) -> RuleVerdict:
    """In joules or grams: `used` so far this week, `wants` on top; what the run wants may be unknown."""
    value = None if used is None else used + (wants or 0.0)
    wanted = "" if wants is None else f" and {shown(wants)} wanted"
    status: Judged
    if value is None:
        # What it wants alone may already be too much.
        status = "broken" if wants is not None and wants > limit else "unknown"
        words = f"an unknown amount used{wanted} of {shown(limit)} a week"
    else:
        status = "kept" if value < limit or (wants is not None and value == limit) else "broken"
        words = f"{shown(used)} used{wanted} of {shown(limit)} a week"
    if status == "broken":
        words += ": that is too much" if wants else ": nothing is left"
    return RuleVerdict(rule=f"budget_per_week.{key}", limit=limit, value=value, unit=unit, status=status, words=words)


def _blocks(rule: RuleVerdict, policy: Policy) -> bool:
    return rule.status == "broken" or (rule.status == "unknown" and policy.when_unknown == "forbid")


def _passes(verdict: Verdict, facts: Facts, now: datetime, series: Series | None) -> datetime | None:
    """The moment until which it is sure that it is not allowed, by rules other than hours; None: for good."""
    until = [now]
    for rule in verdict.blocking:
        if rule.rule == "regions":
            return None
        if rule.rule == "never_above":
            step = _step_after(now, series)
            if step is None:
                return None
            until.append(step)
        elif rule.rule.startswith("budget_per_week"):
            wants = facts.wants_j if rule.unit == "J" else facts.wants_g
            if isinstance(rule.limit, float) and (wants or 0.0) > rule.limit:
                return None
            until.append(week(verdict.policy, now)[1])
    return max(until)


def _step_after(now: datetime, series: Series | None) -> datetime | None:
    """When something else may be known of the intensity than now; None: never."""
    edges = [edge for edge in _step_edges(series) if edge > now]
    return min(edges, default=None)


def _step_edges(series: Series | None) -> Iterator[datetime]:
    for step in series.steps if series else ():
        yield from (step.start, step.end)


def _open(policy: Policy, moment: datetime, series: Series | None) -> bool:
    """Whether hours and intensity allow it."""
    if policy.hours and not _in_hours(policy, moment):
        return False
    if policy.never_above is None:
        return True
    step: Step | None = series.at(moment) if series else None
    return policy.when_unknown == "allow" if step is None else step.g_per_kwh <= policy.never_above


def _in_hours(policy: Policy, moment: datetime) -> bool:
    local = _local(policy, moment)
    return any(span.holds(local) for span in policy.hours)


def _clock_edges(policy: Policy, start: datetime, end: datetime) -> Iterator[datetime]:
    """Every moment at which the hours may begin or end: when a clock shows a limit of theirs, and when it is set."""
    if not policy.hours:
        return
    minutes = {0} | {minute % DAY_MIN for span in policy.hours for minute in (span.start_min, span.end_min)}
    day = _local(policy, start).date() - timedelta(days=1)
    while day <= _local(policy, end).date() + timedelta(days=1):
        for minute in minutes:
            local = datetime.combine(day, time(minute // 60, minute % 60))
            # An hour that the clock shows twice begins and ends twice.
            yield from {_utc(policy, local), _utc(policy, local.replace(fold=1))}
        day += timedelta(days=1)
    yield from _clock_changes(policy, start, end)


def _clock_changes(policy: Policy, start: datetime, end: datetime) -> Iterator[datetime]:
    """The moments in (start, end] at which the clock is set forward or back, to the second."""

    def offset(moment: datetime) -> timedelta | None:
        return _local(policy, moment).utcoffset()

    hour = start.replace(minute=0, second=0, microsecond=0)
    while hour < end:
        low, high = hour, hour + timedelta(hours=1)
        hour = high
        if offset(low) == offset(high):
            continue
        while high - low > timedelta(seconds=1):
            middle = (low + (high - low) / 2).replace(microsecond=0)
            low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
        yield high


def _local(policy: Policy, moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC).astimezone(policy.zone)


def _utc(policy: Policy, local: datetime) -> datetime:
    """What a clock shows -> naive UTC; of an hour that it shows twice, the first unless `fold` says otherwise."""
    return local.replace(tzinfo=policy.zone).astimezone(UTC).replace(tzinfo=None)


def _date(policy: Policy, moment: datetime) -> str:
    local = _local(policy, moment)
    zone = f" ({policy.time_zone})" if policy.time_zone else ""
    return f"{DAYS[local.weekday()].title()} {local:%Y-%m-%d %H:%M}{zone}"


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value).removesuffix(".0")
