"""What a browser needs to draw charts: Vega, Vega-Lite and Vega-Embed, as one script."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

PRINT = "import sys, vl_convert; sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"


@cache
def prepare() -> subprocess.Popen[bytes]:
    """Begin to put the script together, in a process of its own: two seconds, while rows are read and charts made."""
    return subprocess.Popen([sys.executable, "-c", PRINT], stdout=subprocess.PIPE)


@cache
def javascript() -> str:
    """The libraries, as globals of the page; nothing in them is fetched from elsewhere."""
    printed, _ = prepare().communicate()
    if prepare().returncode:
        raise RuntimeError(f"vl_convert ended with {prepare().returncode}")
    return printed.decode()
