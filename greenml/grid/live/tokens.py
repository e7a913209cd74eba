"""Tokens: from the environment, else from the system's keyring. They are kept nowhere and shown nowhere."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

from greenml.grid.live.provider import NoTokenError, RefusedError

SERVICE = "greenml"
"""Under which the keyring has them."""


def token(name: str, *, title: str) -> str:
    """What the environment, else the keyring, has under `name`. Raises NoTokenError where there is none."""
    found = os.environ.get(name, "").strip() or _from_keyring(name)
    if not found:
        raise NoTokenError(f"{title}: no token: {name} is not set", hint=how_to_set(name))
    return found


def header_token(name: str, *, title: str) -> str:
    """A token that is to go into a header."""
    found = token(name, title=title)
    if not fits_header(found):
        raise RefusedError(f"{title}: {name} is no token: it has spaces or odd characters", hint=how_to_set(name))
    return found


def fits_header(text: str) -> bool:
    """Whether this can be sent as it is; the libraries' own refusal would print it."""
    return text.isascii() and text.isprintable() and " " not in text


def how_to_set(*names: str) -> str:
    """Both ways, in a hint."""
    exports = " ".join(f"{name}=..." for name in names)
    stored = " and ".join(f"`keyring set {SERVICE} {name}`" for name in names)
    return f"export {exports}, or {stored} (pip install keyring)"


def _from_keyring(name: str) -> str:
    """Out of the keyring where the package is installed, and "" where it has nothing."""
    if sys.modules.get("keyring") is None and find_spec("keyring") is None:
        return ""
    keyring, errors = import_module("keyring"), import_module("keyring.errors")
    try:
        return (keyring.get_password(SERVICE, name) or "").strip()
    except (errors.KeyringError, OSError, RuntimeError):  # locked, or a machine without one
        return ""
