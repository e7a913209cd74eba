"""A model card as the Hugging Face hub reads it: what a machine looks up, then what people ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from greenml.console import clean, counted, figure, percentage
from greenml.report.markdown import bullets, code, escape, grid, section, together
from greenml.report.tables import mark
from greenml.units import JOULES_PER_KWH, format_bytes, format_duration, format_energy, format_flops, format_mass

if TYPE_CHECKING:
    Row = dict[str, Any]

OWN_MODELS = ("cnn",)
"""Not timm's: its loader would not know them."""
TRAINED_HERE = ("train", "trial")
VERBS = {"track": "tracked", "compress": "a model made smaller, trained"}
OPTIMIZER = {"optimizer": "", "lr": "learning rate", "weight_decay": "weight decay", "ema_decay": "average of weights"}
UNKNOWN = "unknown"
UNSAID = "unknown to greenml: whoever publishes the model says it here"
LIMITS = (
    "Energy is that of the training, not of making the hardware, and nothing is netted off.",
    "The factor is an average of a region and a year: what the grid burned in these minutes is not known.",
    "Accuracy is that of one test split; on other data it may be anything.",
    "Figures of one machine are not those of another.",
)


def card(run: Row, contest: Row) -> str:
    """The card of one run, as `portrait.everything` knows it; `contest` is `rows.all_of_contest`."""
    front = yaml.safe_dump(told(metadata(run)), sort_keys=False, allow_unicode=True, width=2**20)
    title = f"# {escape(run['name'] or run['model'])}"
    sections = [
        section("How it was trained", facts(training(run)), *command(run)),
        section("What it cost", spent(run), *phases(run), experiments(contest)),
        section("Climate performance", questions(run, contest)),
        section("Limits", bullets([*caveats(run), *LIMITS])),
    ]
    return "\n\n".join([f"---\n{front}---", title, opening(run), *filter(None, sections)]) + "\n"


# What a machine reads


def metadata(run: Row) -> Row:
    """What the hub looks up, as its YAML has it; None where it is unknown."""
    is_own = run["kind"] in TRAINED_HERE
    return {
        "library_name": "timm" if is_own and run["model"] not in OWN_MODELS else None,
        "pipeline_tag": "image-classification" if is_own else None,
        "tags": list(dict.fromkeys(["greenml", *(["image-classification"] if is_own else []), *run["tags"]])),
        "datasets": [hub_name(run["dataset"])] if run["dataset"].startswith("hf:") else None,
        "metrics": [run["metric"]] if reached(run) is not None else None,
        "co2_eq_emissions": emissions(run),
        "model-index": index(run) if is_own and reached(run) is not None else None,
    }


def emissions(run: Row) -> Row | None:
    """Grams, and where they are from; nothing where the total is unknown."""
    if run["co2_g"] is None:
        return None
    return {
        "emissions": run["co2_g"],
        "source": f"{run['meter'].get('meter') or 'meter unknown'}, {run['source']}, through greenml",
        "training_type": training_type(run),
        "geographical_location": place(run),
        "hardware_used": hardware(run),
    }


def training_type(run: Row) -> str | None:
    """Models begin with weights of no training, unless timm was asked for published ones; of programs nobody knows."""
    if run["kind"] not in TRAINED_HERE:
        return None
    return "fine-tuning" if run["config"].get("model_args", {}).get("pretrained") else "pre-training"


def place(run: Row) -> str | None:
    """Where it ran: the region whose factor was used; where only the world's was, the region that was named."""
    region: str | None = run["region_asked" if run["intensity_level"] == "world" else "region_used"]
    return region


def hardware(run: Row) -> str | None:
    known = run["hardware"]
    parts = [known.get("gpu"), known.get("cpu"), known.get("threads") and counted(known["threads"], "thread")]
    return ", ".join(str(part) for part in parts if part) or None


def index(run: Row) -> list[Row]:
    """What the model reached on the test split."""
    dataset = hub_name(run["dataset"])
    return [
        {
            "name": run["name"] or f"{run['model']}-{run['run_id'][:8]}",
            "results": [
                {
                    "task": {"type": "image-classification"},
                    "dataset": {"name": dataset, "type": dataset, "split": "test"},
                    "metrics": [{"type": run["metric"], "value": reached(run), "name": f"Test {run['metric']}"}],
                }
            ],
        }
    ]


def reached(run: Row) -> float | None:
    """On the test split, a fraction where it is accuracy: the `value` of the leaderboard."""
    value: float | None = run["value"]
    return value


def hub_name(dataset: str) -> str:
    """OWNER/NAME of a data set of the hub, without the name of its config; else as it is."""
    return "/".join(dataset.removeprefix("hf:").split("/")[:2]) if dataset.startswith("hf:") else dataset


def told(value: Any) -> Any:
    """Without what is unknown; what people named is on one line, and cannot end the YAML."""
    if isinstance(value, dict):
        return {key: told(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [told(part) for part in value]
    return clean(value) if isinstance(value, str) else value


# What people read


def opening(run: Row) -> str:
    """One paragraph: what it is, what it reached, what that took."""
    value, metric = reached(run), escape(run["metric"])
    if value is None:
        result = "What it reached on test data is unknown."
    elif run["metric"] == "accuracy":
        result = f"It reached {percentage(value)} % test accuracy."
    else:
        better = "less" if run["goal"] == "min" else "more"
        result = f"It reached a {metric} of {figure(value)} ({better} is better)."
    verb = "trained" if run["kind"] in TRAINED_HERE else VERBS.get(run["kind"], "recorded")
    took = "; ".join(f"{name} {escape(text)}" for name, text in (("energy", energy(run)), ("CO2e", co2(run))))
    cost = f"What that took: {took} (run {run['run_id']}, {run['status']})."
    # Nothing in a code span is obeyed, once nothing can end it: neither its own sign nor the end of a paragraph.
    model = clean(run["model"]).replace("`", "").strip() or UNKNOWN
    return f"`{model}`, {verb} on {escape(run['dataset'])} by greenml. {result} {cost}"


def training(run: Row) -> list[tuple[str, str]]:
    """How it was trained: label and text."""
    splits = [(run["num_train"], "training"), (run["num_val"], "validation"), (run["num_test"], "test")]
    counts = ", ".join(f"{number:,} {split}" for number, split in splits if number is not None)
    pretrained = {"pre-training": "no: from random weights", "fine-tuning": "yes, timm's published ones"}
    return [
        ("model", f"{run['model']}, {run['num_parameters']:,} parameters" if run["num_parameters"] else run["model"]),
        *made_of(run),
        ("cost of a sample", format_flops(run["flops_per_sample"])),
        ("published weights", pretrained.get(training_type(run) or "", UNKNOWN)),
        ("data", f"{run['dataset']}" + (f": {counts} samples" if counts else "")),
        ("data and split", f"{run['data_hash'] or UNKNOWN}, {run['split_hash'] or UNKNOWN}"),
        ("image size", f"{run['image_size']} px" if run["image_size"] else UNKNOWN),
        ("epochs", epochs(run)),
        ("precision", run["precision"] or UNKNOWN),
        ("batch size", str(run["batch_size"] or UNKNOWN)),
        ("optimizer", optimizer(run["config"])),
        ("seed", UNKNOWN if run["seed"] is None else str(run["seed"])),
        ("validation accuracy", UNKNOWN if run["val_accuracy"] is None else f"{percentage(run['val_accuracy'])} %"),
        ("hardware", hardware(run) or UNKNOWN),
        ("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items()) or UNKNOWN),
    ]  # fmt: skip


def made_of(run: Row) -> list[tuple[str, str]]:
    """How a compressed model came about."""
    if run["kind"] != "compress":
        return []
    return [
        ("compressed by", run["method"] or UNKNOWN),
        ("made of", f"run {run['parent']}" if run["parent"] else UNKNOWN),
    ]


def epochs(run: Row) -> str:
    """How many, and which one was kept; what a program keeps, nobody knows."""
    kept = f"; epoch {run['best_epoch']} was kept, chosen on validation" if run["best_epoch"] else ""
    return f"{run['epochs']}{kept if run['kind'] in TRAINED_HERE else ''}"


def optimizer(config: Row) -> str:
    parts = [f"{name} {config[key]}".strip() for key, name in OPTIMIZER.items() if config.get(key) is not None]
    return ", ".join(parts) or UNKNOWN


def command(run: Row) -> list[str]:
    return [f"The command:\n\n{code(run['command'])}"] if run["command"] else []


def spent(run: Row) -> str:
    """Energy by component, and how it became CO2e."""
    parts = []
    for name in ("cpu", "gpu", "ram"):
        source, kwh, method = run[f"{name}_source"], run[f"{name}_kwh"], run[f"{name}_method"]
        amount = "" if kwh is None or source == "absent" else f"{format_energy(kwh * JOULES_PER_KWH)}, "
        parts.append((name.upper(), f"{amount}{source or UNKNOWN}{f': {method}' if method else ''}"))
    factors = f"{figure(run['intensity_g_per_kwh'])} g/kWh x PUE {run['pue']:g}"
    is_of_place = run["intensity_level"] not in ("fixed", "trace", "live")
    factor = run["intensity_source"] + (f", for the {run['intensity_level']}" if is_of_place else "")
    return facts(
        [
            ("energy", energy(run)),
            *parts,
            ("CO2e", f"{co2(run)}: energy x {factors}"),
            ("intensity", run["intensity_note"]),
            ("factor", factor),
            ("time", format_duration(run["duration_s"])),
            ("peak memory", memory(run)),
            ("meter", run["meter"].get("meter") or UNKNOWN),
        ]
    )


def phases(run: Row) -> list[str]:
    """Where the energy went."""
    if not run["phases"]:
        return []
    lines = [
        [
            phase["name"],
            UNKNOWN if phase["total_j"] is None else mark(phase["worst_source"]) + format_energy(phase["total_j"]),
            format_duration(phase["duration_s"]),
            phase["worst_source"],
        ]
        for phase in run["phases"]
    ]
    return [grid(["phase", "energy", "time", "known"], lines, [False, True, True, False])]


def experiments(contest: Row) -> str:
    """What all runs of the contest took, this one among them."""
    return (
        f"All experiments on these data and this split took {together(contest)}: "
        f"{counted(contest['num_runs'], 'run')} in the store, with this one. Runs that were removed are not in it."
    )


def questions(run: Row, contest: Row) -> str:
    """Those of climate performance model cards (Hershcovich et al., 2022), answered as far as anybody knows."""
    mix = f"{figure(run['intensity_g_per_kwh'])} g CO2e per kWh ({run['intensity_note']}); its parts: {UNKNOWN}"
    answers = [
        ("Is the model publicly available?", UNSAID),
        ("How long did the training of the final model take?", time(run)),
        ("How long did all experiments take?", format_duration(contest["total_s"])),
        ("What energy did the final model take?", energy(run)),
        ("What was the power of CPU and GPU?", power(run)),
        ("Where were the computations done?", place(run) or UNKNOWN),
        ("What is the energy mix there?", mix),
        ("How much CO2e did the final model emit?", co2(run)),
        ("How much CO2e did all experiments emit?", co2_of_all(contest)),
        ("How much CO2e does the inference of one sample emit?", inference(run)),
        ("What positive impact on the environment is expected?", UNSAID),
    ]  # fmt: skip
    return grid(["question", "answer"], answers, [False, False])


def time(run: Row) -> str:
    """Of its own run: a compressed model was another one before."""
    own = format_duration(run["duration_s"])
    return own if run["kind"] != "compress" else f"{own} to compress it, after the training of what it was made of"


def power(run: Row) -> str:
    """The mean over the whole run, without the time for which it waited."""
    if run["own_kwh"] is None or not run["duration_s"]:
        return UNKNOWN
    waiting_j = sum(phase["total_j"] for phase in run["phases"] if phase["name"] == "wait")
    watts = (run["own_kwh"] * JOULES_PER_KWH - waiting_j) / run["duration_s"]
    return f"{mark(run['source'])}{figure(watts)} W, mean of CPU, GPU and memory over the run"


def inference(run: Row) -> str:
    """What the test took, by sample: it loads data, too, and is one pass. Of a compressed model what was measured, in
    its largest batches."""
    if answers := [row for row in run["inference"] if row["name"] == "after" and row["co2_g_per_1000"] is not None]:
        most = max(answers, key=lambda row: int(row["batch_size"]))
        grams, joules, sign = most["co2_g_per_1000"] / 1000, most["energy_j_per_1000"] / 1000, mark(most["source"])
        batch = counted(most["batch_size"], "image")
        return f"{sign}{format_micro(grams)} ({sign}{figure(joules)} J), measured in batches of {batch}"
    tested = next((phase for phase in run["phases"] if phase["name"] == "test"), None)
    if tested is None or tested["total_j"] is None or not run["test_count"]:
        return UNKNOWN
    joules = tested["total_j"] / run["test_count"]
    grams = joules / JOULES_PER_KWH * run["pue"] * tested["mean_g_per_kwh"]
    sign = mark(tested["worst_source"])
    return (
        f"{sign}{format_micro(grams)} ({sign}{figure(joules)} J), the test divided by its {run['test_count']:,} samples"
    )


def format_micro(grams: float) -> str:
    """ "1.20 mg"; what is less, in µg."""
    return format_mass(grams) if grams >= 1e-3 else f"{figure(grams * 1e6)} µg"


def co2_of_all(contest: Row) -> str:
    if not contest["total_known_co2_g"]:
        return UNKNOWN
    mass = f"{mark(contest['worst_source'])}{format_mass(contest['total_known_co2_g'])}"
    return f"{mass}, {counted(contest['num_runs'], 'run')}"


def energy(run: Row) -> str:
    """The total; of an incomplete one the part that is known."""
    if run["energy_kwh"] is not None:
        return mark(run["source"]) + format_energy(run["energy_kwh"] * JOULES_PER_KWH)
    if not run["known_kwh"]:
        return UNKNOWN
    return f"{mark('unknown')}{format_energy(run['known_kwh'] * JOULES_PER_KWH)}, the part that is known"


def co2(run: Row) -> str:
    if run["co2_g"] is None:
        return UNKNOWN
    return f"{mark(run['source'])}{format_mass(run['co2_g'])}"


def memory(run: Row) -> str:
    host, device = run["peak_host_bytes"], run["peak_device_bytes"]
    return format_bytes(host) + (f", {format_bytes(device)} on the device" if device is not None else "")


def caveats(run: Row) -> list[str]:
    """What this run in particular leaves open."""
    known = []
    if run["unranked"]:
        known.append(f"This run is not ranked: {escape(run['unranked'])}.")
    if run["source"] == "estimated":
        known.append("\\~: by a power model, not measured; nobody knows by how much it is off.")
    if run["intensity_level"] == "world":
        asked = run["region_asked"]
        why = "No region was given" if asked is None else f"Nobody publishes a factor of {escape(asked)}"
        known.append(f"{why}: the factor is the average of the world.")
    known.append("One run is an anecdote: another seed gives another accuracy, and another energy.")
    return known


def facts(labelled: list[tuple[str, str]]) -> str:
    """Label and text, one a line of a list."""
    return "\n".join(f"- **{label}**: {escape(text)}" for label, text in labelled)
