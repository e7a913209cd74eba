"""What a browser needs to draw charts: Vega, Vega-Lite and Vega-Embed, as one script."""

from __future__ import annotations


def javascript() -> str:
    """The libraries, as globals of the page; nothing in them is fetched from elsewhere."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle()
    return bundle
