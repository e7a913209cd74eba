"""Train image classifiers and know what every epoch cost."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenml.tracking import track as track

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`greenml.track`, opened when it is asked for: commands that track nothing need not load it."""
    if name == "track":
        from greenml.tracking import track

        return track
    raise AttributeError(f"module 'greenml' has no attribute '{name}'")
