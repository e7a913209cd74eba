"""Rows of `recommended` in the words of a person. Plain text; nothing here decides anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenml import config as configs
from greenml.console import SOURCES, UNKNOWN, counted, figure, legends, percentage
from greenml.records import Source
from greenml.units import JOULES_PER_KWH, format_duration, format_energy, format_mass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from greenml.recommend.advice import Asked

    Row = dict[str, Any]

SAID_APART = {"model", "precision", "dataset", *configs.STOP_RULES, *configs.OF_ONE_RUN}
"""Keys of a config that do not tell two recipes apart at the same epoch, or are said anyway."""
SPREADS = {
    None: "the spread is unknown",
    True: "difference within the spread",
    False: "difference beyond the spread",
}
"""What `is_within_spread` says of a difference."""
EXTENT = "energy is that of a run until then, setting up included; time is that of training and validation alone"
"""What the figures of a recipe at an epoch hold."""
SAME = 1e-6
"""Two ratios that differ by less are one: the same grid, with the rounding of sums."""


def sentence(asked: Asked, best: Row, other: Row) -> str:
    """What to run instead of what, on what evidence."""
    goal = _goal(asked)
    if best["is_same_recipe"]:
        return _on_its_own(asked, goal, best)
    use, instead = name(best, other), name(other, best)
    against = f"{percentage(best['accuracy'])} % against {percentage(best['against_accuracy'])} % on validation"
    return _capital(
        f"{goal}use {use} for {counted(best['epochs'], 'epoch')} instead of {instead} for {best['against_epochs']}: "
        f"{against}, {_price(best)}{_hindsight(best['epochs'], best)} ({_runs(best, other)})"
    )


def _hindsight(epochs: int, row: Row) -> str:
    """Whether somebody chose so many epochs of a recipe after its runs had gone further."""
    return ", in hindsight" if epochs < row["trained_epochs"] else ""


def _on_its_own(asked: Asked, goal: str, best: Row) -> str:
    """Where a recipe stands against its own last epoch."""
    took = cost(best["energy_kwh"], best["co2_g"], best["duration_s"], best["source"])
    runs = f"{_ids(best['run_ids'])}; {_seeds_of(best['num_runs'], best['seeds'])}"
    if best["epochs"] == best["trained_epochs"]:
        alone = "nothing else has been tried" if best["num_recipes"] == 1 else f"nothing cheaper {_reaches(asked)}"
        return _capital(
            f"{goal}use {name(best)} for {counted(best['epochs'], 'epoch')}: "
            f"{percentage(best['accuracy'])} % on validation for {took}; {alone} ({runs})"
        )
    return _capital(
        f"{goal}use {name(best)} for {best['epochs']} of its {best['trained_epochs']} epochs: "
        f"{percentage(best['accuracy'])} % against {percentage(best['trained_accuracy'])} % on validation, "
        f"{_price(best)}, in hindsight ({runs}, {SPREADS[best['is_within_spread']]})"
    )


def _reaches(asked: Asked) -> str:
    """What nothing cheaper does."""
    if asked.target_accuracy is not None:
        return "reached that"
    if not asked.tolerance_or_default:
        return "is as accurate"
    points = f"{100 * asked.tolerance_or_default:g}"
    return f"comes within {points} percentage point{'s' * (points != '1')} of it"


def refusal(asked: Asked, title: str, best: Row) -> str:
    """Why nothing can be recommended, and what came nearest."""
    ran = f"{name(best)} for {counted(best['epochs'], 'epoch')}"
    reached = f"{percentage(best['accuracy'])} % on validation"
    took = cost(best["energy_kwh"], best["co2_g"], best["duration_s"], best["source"])
    runs = f"{_ids(best['run_ids'])}; {_seeds_of(best['num_runs'], best['seeds'])}"
    match best["shortfall"]:
        case "not accurate enough":
            within = f" within {_limits(asked)}" if asked.has_limits else ""
            return (
                f"Nothing on {title} reached {_per_cent(best['least_accuracy'])}{within}: "
                f"{ran} came closest, {reached} for {took} ({runs})"
            )
        case "outside the limits":
            return (
                f"Nothing on {title} kept within {_limits(asked)}: {ran} took the least energy, {took} for {reached} "
                f"({runs})"
            )
        case "energy unknown":
            return (
                f"No recommendation for {title}: what its runs took is not known in full. The most accurate is {ran}, "
                f"{reached} ({runs})"
            )
        case _:
            return (
                f"No recommendation for {title}: nothing is clearly above guessing yet. The most accurate is {ran}, "
                f"{reached} ({runs})"
            )


def nothing(title: str, metric: str, *, was_left_out: bool) -> str:
    """Of a contest without rows."""
    if was_left_out:
        return f"{title} was not looked at: there are newer data sets"
    if metric != "accuracy":
        return f"No recommendation for {title}: only accuracy is ranked against energy"
    needed = "an epoch that was validated, on a machine that no other metered run shared"
    return f"No recommendation for {title}: no run counts yet; it takes {needed}"


def evidence(best: Row, other: Row) -> list[str]:
    """What the sentence rests on, a line each."""
    is_answer, pair = best["shortfall"] is None, not best["is_same_recipe"]
    lines = [_figures(best, other if pair else None)]
    if is_answer and pair:
        at_its_end = best["against_epochs"] == other["trained_epochs"]
        lines.append(_figures_of_whole(other, best) if at_its_end else _figures(other, best))
    lines.append("accuracy is that on validation; a recipe is one config under any seed")
    lines.append(EXTENT)
    if unfinished := [row["model"] for row in ([best, other] if pair else [best]) if row["is_unfinished"]]:
        lines.append(f"no run of it has finished: {', '.join(unfinished)}")
    if is_answer and best["epochs"] < best["trained_epochs"]:
        lines.append(
            f"in hindsight: its runs went on to epoch {best['trained_epochs']}, and nobody knew at epoch "
            f"{best['epochs']} that this would do"
        )
    if is_answer:
        lines += _free_epochs(best, other)
        lines += _own_command(best)
    if is_answer and pair:
        lines += _differences_in_place(best, other)
    if imported := [row["model"] for row in ([best, other] if pair else [best]) if row["is_imported"]]:
        lines.append(f"accuracy and data of imported runs are on their importer's word: {', '.join(imported)}")
    if best["num_unread"] and best["shortfall"] != "energy unknown":
        number = best["num_unread"]
        which = "1 recipe does not count: what it" if number == 1 else f"{number} recipes do not count: what they"
        lines.append(f"{which} took is not known in full")
    if is_answer and pair and best["source"] != best["against_source"]:
        lines.append(
            f"energy is not known alike: of {best['model']} {best['source']}, of the other {best['against_source']}"
        )
    sources = {best["source"], best["ratio_source"]}
    return lines + legends(sources)


def _free_epochs(best: Row, other: Row) -> Iterator[str]:
    """What is left of the saving where the other, too, might have stopped where it was most accurate."""
    epochs = best["against_best_epoch"]
    if epochs == best["against_epochs"] or (best["is_same_recipe"] and epochs == best["epochs"]):
        return
    energy, co2 = best["against_best_energy_kwh"], best["against_best_co2_g"]
    if energy and best["energy_kwh"] is not None:
        ratio_co2 = best["co2_g"] / co2 if co2 and best["co2_g"] is not None else None
        ratios = _ratios(best["energy_kwh"] / energy, ratio_co2, _mark(best["ratio_source"]))
        yield f"{name(other, best)} was there after epoch {epochs} of {best['against_epochs']}: against that, {ratios}"


def _own_command(best: Row) -> Iterator[str]:
    """Somebody's own program runs as long as it does."""
    if best["kind"] == "track" and best["command"] and best["epochs"] < best["trained_epochs"]:
        yield f"its own command: epochs are set in the program, which ran {best['trained_epochs']}"


def runners_up(asked: Asked, rows: Sequence[Row]) -> list[str]:
    """What else there is, best first, without what the sentence names already, and each training once: others that
    differ in what stops them stand for the same epochs."""
    best = rows[0]
    said = {best["recipe_key"], *([best["against_recipe_key"]] if best["shortfall"] is None else [])}
    others = [row for row in rows if row["training_place"] and row["recipe_key"] not in said]
    return [_runner_up(row, best) for row in others[: asked.num_runners_up]]


def _runner_up(row: Row, best: Row) -> str:
    why = {None: "", "not accurate enough": ""}.get(row["shortfall"], f"; {row['shortfall']}")
    took = cost(row["energy_kwh"], row["co2_g"], row["duration_s"], row["source"])
    return (
        f"{name(row, best)} for {counted(row['epochs'], 'epoch')}: {_accuracy(row['accuracy'], row['std_accuracy'])} "
        f"for {took}{why} (n = {row['num_runs']}; {_ids(row['run_ids'])}){_instead(row, best)}"
    )


def _instead(row: Row, best: Row) -> str:
    """What the recommended recipe would have done in its place, where that takes less."""
    energy, co2 = row["instead_energy_ratio"], row["instead_co2_ratio"]
    if energy is None or energy >= 1:
        return ""
    mark = _mark(max(best["source"], row["trained_source"], key=[str(source) for source in Source].index))
    return (
        f"; instead of its {counted(row['trained_epochs'], 'epoch')}, {name(best, row)} for {row['instead_epochs']}: "
        f"{percentage(row['instead_accuracy'])} % against {percentage(row['trained_accuracy'])} % "
        f"at {_ratios(energy, co2, mark)}{_hindsight(row['instead_epochs'], best)}, "
        f"{SPREADS[row['instead_is_within_spread']]}"
    )


def name(row: Row, other: Row | None = None) -> str:
    """A recipe by what tells it from the other: "cnn in bf16 with lr 0.01"."""
    precision = row["precision"]
    says = precision and (precision != "fp32" or (other is not None and other["precision"] != precision))
    differing = [] if other is None else differences(row["config"], other["config"])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    with_ = f" with {', '.join(differing[:3])}{more}" if differing else ""
    return f"{row['model']}{f' in {precision}' if says else ''}{with_}"


def differences(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Key and value of what this config has otherwise, and another lacks or has differently."""
    keys = [key for key in config if key not in SAID_APART and config[key] != other.get(key, config[key])]
    return [f"{key} {_short(config[key])}" for key in keys]


def cost(energy_kwh: float | None, co2_g: float | None, duration_s: float | None, source: str) -> str:
    """ "~1.23 Wh, 0.58 g CO2e, 3:07"."""
    if energy_kwh is None:
        return f"an unknown energy, {format_duration(duration_s)}"
    mark = _mark(source)
    return (
        f"{mark}{format_energy(energy_kwh * JOULES_PER_KWH)}, {mark}{format_mass(co2_g)} CO2e, "
        f"{format_duration(duration_s)}"
    )


def _price(best: Row) -> str:
    """The ratio of CO2; that of energy too where the two ran on different grids."""
    mark = _mark(best["ratio_source"])
    energy, co2 = best["energy_ratio"], best["co2_ratio"]
    if energy is None:
        took = cost(best["energy_kwh"], best["co2_g"], best["duration_s"], best["source"])
        return f"for {took}; what the other took is not known in full"
    return f"at {_ratios(energy, co2, mark)}"


def _ratios(energy: float, co2: float | None, mark: str) -> str:
    if co2 is None:
        return f"{mark}{_ratio(energy)} of the energy"
    if abs(energy - co2) <= SAME * energy:
        return f"{mark}{_ratio(co2)} of the CO2"
    return f"{mark}{_ratio(energy)} of the energy and {mark}{_ratio(co2)} of the CO2"


def _differences_in_place(best: Row, other: Row) -> list[str]:
    """Where two recipes ran elsewhere, the figures differ for that, too."""
    lines = []
    if (best["regions"], best["pues"]) != (other["regions"], other["pues"]):
        lines.append(f"CO2 differs for the grid, too: {_grid(best)} against {_grid(other)}")
    here, there = _machine(best), _machine(other)
    if here != there:
        lines.append(f"not on one machine: {best['model']} on {here}, {other['model']} on {there}")
    return lines


def _grid(row: Row) -> str:
    pues = [f"{pue:g}" for pue in row["pues"]]
    pue = f", PUE {' and '.join(pues)}" if pues != ["1"] else ""
    return f"{row['model']} in {' and '.join(row['regions'])}{pue}"


def _machine(row: Row) -> str:
    hardware = row["hardware"] or {}
    return str(hardware.get("gpu") or hardware.get("cpu") or "an unknown machine")


def _figures(row: Row, other: Row | None) -> str:
    return _line(
        row, other, row["epochs"], row["accuracy"], row["std_accuracy"], row["num_runs"],
        cost(row["energy_kwh"], row["co2_g"], row["duration_s"], row["source"]),
    )  # fmt: skip


def _figures_of_whole(row: Row, best: Row) -> str:
    took = cost(row["trained_energy_kwh"], row["trained_co2_g"], row["trained_duration_s"], row["trained_source"])
    return _line(
        row, best, row["trained_epochs"], best["against_accuracy"], best["against_std_accuracy"],
        row["trained_num_runs"], took,
    )  # fmt: skip


def _line(
    row: Row, other: Row | None, epochs: int, accuracy: float, std: float | None, num_runs: int, took: str
) -> str:
    seeds = f", seeds {', '.join(map(str, row['seeds']))}" if len(row["seeds"]) > 1 else ""
    return (
        f"{name(row, other)} for {counted(epochs, 'epoch')}: {_accuracy(accuracy, std)}, {took}; "
        f"n = {num_runs}{seeds}; {_ids(row['run_ids'], most=12)}"
    )


def _accuracy(accuracy: float, std: float | None) -> str:
    spread = "" if std is None else f" ± {percentage(std)}"
    return f"{percentage(accuracy)}{spread} %"


def _runs(best: Row, other: Row) -> str:
    """Run ids, n of each, and what the spread says of the difference."""
    ids = f"{_ids(best['run_ids'])} against {_ids(other['run_ids'], word='')}"
    n, m = best["num_runs"], best["against_num_runs"]
    if n != m:
        counts = f"{_seeds_of(n, best['seeds'])} against {m}"
    else:
        counts = f"{_seeds_of(n, best['seeds'] if len(best['seeds']) <= len(other['seeds']) else other['seeds'])} each"
    return f"{ids}; {counts}, {SPREADS[best['is_within_spread']]}"


def _seeds_of(num_runs: int, seeds: Sequence[int]) -> str:
    return counted(num_runs, "seed") if len(seeds) >= num_runs > 1 else counted(num_runs, "run")


def _ids(run_ids: Sequence[str], *, most: int = 3, word: str | None = None) -> str:
    shown = ", ".join(run_id[:8] for run_id in run_ids[:most])
    more = f" and {len(run_ids) - most} more" if len(run_ids) > most else ""
    noun = ("run " if len(run_ids) == 1 else "runs ") if word is None else word
    return f"{noun}{shown}{more}"


def _goal(asked: Asked) -> str:
    """What the sentence begins with where a target or limits were asked for."""
    parts = []
    if asked.target_accuracy is not None:
        parts.append(f"to reach {_per_cent(asked.target_accuracy)}")
    if asked.has_limits:
        parts.append(f"within {_limits(asked)}")
    return f"{' '.join(parts)}, " if parts else ""


def _limits(asked: Asked) -> str:
    limits = [] if asked.max_co2_g is None else [f"{format_mass(asked.max_co2_g)} CO2e"]
    limits += [] if asked.max_time_s is None else [format_duration(asked.max_time_s)]
    return " and ".join(limits)


def _per_cent(fraction: float | None) -> str:
    return UNKNOWN if fraction is None else f"{100 * fraction:g} %"


def _mark(source: str) -> str:
    return SOURCES.get(source, ("", ""))[0]


def _ratio(ratio: float) -> str:
    return f"{figure(100 * ratio, 2)} %"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 30 else f"{text[:29]}…"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
