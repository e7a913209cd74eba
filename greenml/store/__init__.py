"""The only door to DuckDB: one short transaction at a time, so that trainings write and boards read one file.

Writers take turns on a lock file beside the store; readers open it read-only and wait for their turn. What cannot be
written in time goes to a spool beside the store, which the next writer, of whatever process, drains first.
"""

from greenml.store.health import Health, examine
from greenml.store.merging import Merged
from greenml.store.rows import intensity_of
from greenml.store.schema import OlderSchemaError
from greenml.store.store import Store, resolve_path

__all__ = ["Health", "Merged", "OlderSchemaError", "Store", "examine", "intensity_of", "resolve_path"]
