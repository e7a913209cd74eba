"""`greenml grid`: where and when electricity is clean. One module a command."""

from __future__ import annotations

import typer

from greenml.cli import gridaudit, gridforecast, gridnow, gridplan, gridregions

app = typer.Typer(help="When and where electricity is clean.", rich_markup_mode=None)
app.command("now")(gridnow.now)
app.command("forecast")(gridforecast.forecast)
app.command("plan", epilog=gridplan.EXAMPLES)(gridplan.plan)
app.command("regions", epilog=gridregions.EXAMPLES)(gridregions.regions)
app.command("audit", epilog=gridaudit.EXAMPLES)(gridaudit.audit)
