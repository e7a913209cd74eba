"""How the figures of a report are made, and what they do not say: the same words on the page and in Markdown."""

METHOD = (
    (
        "Energy",
        "What CPU, GPU and memory took from the first reading of the meter to the last: set-up, validation and test "
        "are in it, and what else the machine did meanwhile, unless a run was metered as the share of its processes. "
        "It is measured where a counter could be read, and marked where it is not. A sum is as good as its worst part.",
    ),
    (
        "CO2e",
        "Energy x PUE x the average intensity of the grid, as the table says. What the run is charged with, not what "
        "the grid would have saved without it.",
    ),
    (
        "What is compared",
        "Runs on the same data and split, judged by the same metric and metered in the same scope, and no others.",
    ),
    (
        "Validation and test",
        "Choices look at validation: the front, swaps, savings, epochs, the recommendation. The test split is read "
        "once, at the end, for the epoch that validation chose.",
    ),
    (
        "Rank",
        "By percentage points of test accuracy per kWh. A run that is not clearly above guessing has none: next to "
        "nothing spent makes any ratio look good.",
    ),
    ("Hindsight", "Optimal epochs, fronts and swaps are known only once all runs are paid for."),
    (
        "Chance",
        "A difference within the spread of the seeds may be luck. One run is an anecdote: where ± is –, nobody knows "
        "the spread.",
    ),
    ("Unknown", "What could not be read is shown as unknown, never as 0."),
)
"""Term and explanation."""
LIMITS = (
    "Not counted: making the hardware, screens, networks and downloads, cooling beyond the PUE, runs that nobody "
    "metered or that were removed, and using the model afterwards. Nothing is offset.",
    "A grid factor is an average of a region and a year: what the grid burned in these minutes is not known.",
    "Accuracy is that of one test split: on other data it may be anything.",
    "Figures of one machine are not those of another: compare runs of one machine.",
)
