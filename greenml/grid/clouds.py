"""What the providers of clouds are called. Where their regions stand is in the table (`atlas`)."""

from __future__ import annotations

NAMES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
