"""Files that a program writes figures to, read while it writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

AT_ONCE_BYTES = 4 << 20

Figures = dict[str, Any]


class JsonLines:
    """A file that grows by a JSON object a line. What is there already when we come is not ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = _size(path)
        self._torn = b""
        self.has_more = False
        """Whether the last `read` took as much as it takes at once."""
        self.trouble: str | None = None
        """The first line that could not be read, or why none can."""

    def read(self, *, final: bool = False) -> list[Figures]:
        """What was added since the last call; a line that is half written waits, until the `final` call."""
        size, self.has_more = _size(self._path), False
        if size < self._offset:  # it was begun anew
            self._offset, self._torn = 0, b""
        if size > self._offset:
            try:
                with self._path.open("rb") as file:
                    file.seek(self._offset)
                    added = file.read(AT_ONCE_BYTES)
            except OSError as error:  # gone, or locked by its writer: the next look may tell
                added = b""
                if final:
                    self.trouble = self.trouble or f"{self._path.name} cannot be read: {error.strerror}"
            self.has_more = len(added) == AT_ONCE_BYTES
            self._offset += len(added)
            self._torn += added
        *lines, self._torn = self._torn.split(b"\n")
        if final:
            lines, self._torn = [*lines, self._torn], b""
        found = []
        for line in filter(None, map(bytes.strip, lines)):
            content = _parsed(line)
            if isinstance(content, dict):
                found.append(content)
            else:
                self.trouble = self.trouble or f"{self._path.name}: `{_short(line)}` is no JSON object, and is not kept"
        return found

    @property
    def exists(self) -> bool:
        return self._path.exists()


class JsonFile:
    """A file that is written, and written again: an object, or a list of them. What it held before is not ours.

    Where one `is_expected`, it is trouble that there is none.
    """

    def __init__(self, path: Path, *, is_expected: bool = False) -> None:
        self._path = path
        self._seen = _signature(path)
        self._known = self._items() or []
        self._is_theirs = True
        """Whether what we know was there before us."""
        self.trouble = f"{path.name} was not written" if is_expected else None
        """Why what is there now cannot be read."""

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def read(self) -> list[Figures]:
        """The objects that are new or changed since the last call."""
        signature = _signature(self._path)
        if signature in (None, self._seen):
            return []
        items = self._items()
        if items is None:  # perhaps half written: the next look may tell
            self.trouble = f"{self._path.name} holds no JSON object, nor a list of them: it is not kept"
            return []
        self._seen, self.trouble = signature, None
        # A list that goes on behind what was there is theirs, then ours. All else is ours, also where a program that
        # is run again writes the very same.
        if self._is_theirs and not (len(items) > len(self._known) and items[: len(self._known)] == self._known):
            self._known = []
        self._is_theirs = False
        new = [item for i, item in enumerate(items) if i >= len(self._known) or item != self._known[i]]
        self._known = items
        return new

    def _items(self) -> list[Any] | None:
        """The objects that it holds; None where it cannot be read, or holds anything else."""
        try:
            content = _parsed(self._path.read_bytes())
        except OSError:
            return None
        items = content if isinstance(content, list) else [content]
        return items if all(isinstance(item, dict) for item in items) else None


def _parsed(text: bytes) -> Any:
    """What JSON says, NaN and infinities as Python writes them among it; None for what is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Changes with every writing; None where there is no such file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _short(line: bytes) -> str:
    text = line.decode(errors="replace")
    return text if len(text) <= 40 else text[:37] + "..."
