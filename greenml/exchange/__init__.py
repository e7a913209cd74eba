"""Runs out of the store into files that other programs read, and out of other programs' files into the store."""

from greenml.exchange.foreign import GOAL_OF, LIKE, Options, Said, goal_of, intensity, to_records
from greenml.exchange.own import bring, staged
from greenml.exchange.survey import File, survey, unique
from greenml.exchange.writing import write_csv, write_json, write_jsonl, write_store

__all__ = [
    "GOAL_OF",
    "LIKE",
    "File",
    "Options",
    "Said",
    "bring",
    "goal_of",
    "intensity",
    "staged",
    "survey",
    "to_records",
    "unique",
    "write_csv",
    "write_json",
    "write_jsonl",
    "write_store",
]
