"""Runs out of the store into files that other programs read, and out of other programs' files into the store."""

from greenml.exchange.foreign import LIKE, Options, Said, to_records
from greenml.exchange.own import opened
from greenml.exchange.survey import File, survey, unique
from greenml.exchange.writing import write_csv, write_json, write_jsonl, write_parquet, write_store

__all__ = [
    "LIKE",
    "File",
    "Options",
    "Said",
    "opened",
    "survey",
    "to_records",
    "unique",
    "write_csv",
    "write_json",
    "write_jsonl",
    "write_parquet",
    "write_store",
]
