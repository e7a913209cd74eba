"""The page of `report --html` in a real browser: it draws, sorts, picks and prints, and asks nobody."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from conftest import STARTED_AT
from PIL import Image
from test_report_page import HOSTILE, A, B, F, fill, record

from greenml.recommend import Asked, advise
from greenml.report.content import gather
from greenml.report.page import page
from greenml.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

try:
    from playwright.sync_api import Browser, Locator, expect, sync_playwright
    from playwright.sync_api import Page as Tab
except ImportError:
    pytest.skip("playwright is not installed: nothing can drive a browser", allow_module_level=True)

if CHROMIUM is None:
    pytest.skip("there is no chromium on this machine: `apt-get install chromium`", allow_module_level=True)

FIRST_BOARD = "#table-leaderboard-1"


def write(store: Store, path: Path) -> str:
    ids = [row["run_id"] for row in store.rows("select run_id from leaderboard")]
    path.write_text(page(gather(store, ids), advise(store, Asked()), written_at=STARTED_AT), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where a page of several recipes lies."""
    folder = tmp_path_factory.mktemp("browser")
    store = Store(folder / "greenml.duckdb", timeout_s=5)
    store.check()
    fill(store)
    return write(store, folder / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Chromium's sandbox refuses root.
    as_root = ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=as_root)
        yield opened
        opened.close()


class Visitor:
    """Opens pages without a network, and hears what they complain of and ask for."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.heard: list[str] = []
        self.asked: list[str] = []

    def __call__(self, address: str, **how: Any) -> Tab:
        tab = self._browser.new_context(offline=True, **how).new_page()
        tab.on("console", lambda message: self.heard.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: self.heard.append(str(error)))
        tab.on("dialog", lambda dialog: (self.heard.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.goto(address)
        # Not wait_for_function: it evaluates text, which the policy of the page forbids.
        expect(tab.locator("html")).to_have_attribute("data-drawn", "all", timeout=60_000)
        return tab


@pytest.fixture(scope="module")
def visitor(browser: Browser) -> Visitor:
    return Visitor(browser)


@pytest.fixture
def visit(visitor: Visitor) -> Iterator[Visitor]:
    """At the end of each test, no page has complained, and none has asked for anything but itself."""
    yield visitor
    assert visitor.heard == []
    assert [url for url in visitor.asked if not re.fullmatch(r"file:.*/report\.html(#.*)?", url)] == []


@pytest.fixture(scope="module")
def desk(visitor: Visitor, address: str) -> Tab:
    """One window for all tests that leave it as they found it: drawing takes longest."""
    return visitor(address, viewport={"width": 1100, "height": 900}, color_scheme="light")


@pytest.fixture
def tab(visit: Visitor, desk: Tab) -> Iterator[Tab]:
    yield desk
    desk.keyboard.press("Escape")


def column(tab: Tab, number: int) -> list[str]:
    return tab.locator(f"{FIRST_BOARD} tbody td:nth-child({number})").all_inner_texts()


def head(tab: Tab, name: str) -> Locator:
    return tab.locator(f"{FIRST_BOARD} th[data-column={name}]")


def energies(tab: Tab) -> list[float]:
    """Of each row, as the page holds it; NaN where it is unknown."""
    place = 1 + tab.locator(f"{FIRST_BOARD} th").evaluate_all(
        "(heads) => heads.findIndex((head) => head.dataset.column === 'energy_kwh')"
    )
    cells = tab.locator(f"{FIRST_BOARD} tbody td:nth-child({place})")
    return [float(cell.get_attribute("data-value") or "nan") for cell in cells.all()]


def faded(tab: Tab) -> int:
    """Marks of the first chart that stand back."""
    return int(
        tab.evaluate(
            "[...document.querySelectorAll('#figure-tradeoff svg path')]"
            ".filter((mark) => Number(mark.getAttribute('opacity') ?? 1) < 0.3).length"
        )
    )


def test_every_chart_is_drawn(tab: Tab) -> None:
    charts = tab.locator(".chart")
    assert charts.count() >= 4
    for chart in charts.all():
        expect(chart.locator("svg")).to_have_count(1)
        assert chart.locator("svg path").count() > 0
    assert "could not be drawn" not in tab.inner_text("main")


def test_a_head_sorts_by_mouse_and_by_key(tab: Tab) -> None:
    ranks = column(tab, 1)
    assert head(tab, "rank").get_attribute("aria-sort") == "ascending"
    head(tab, "energy_kwh").get_by_role("button").click()
    assert head(tab, "energy_kwh").get_attribute("aria-sort") == "ascending"
    assert head(tab, "rank").get_attribute("aria-sort") is None
    up = energies(tab)
    assert up[:-1] == sorted(up[:-1])
    assert math.isnan(up[-1]), "what is unknown comes last"
    head(tab, "energy_kwh").get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert head(tab, "energy_kwh").get_attribute("aria-sort") == "descending"
    down = energies(tab)
    assert down[:-1] == sorted(up[:-1], reverse=True)
    assert math.isnan(down[-1])
    head(tab, "rank").get_by_role("button").focus()
    tab.keyboard.press("Space")
    assert column(tab, 1) == ranks


def test_a_row_is_picked_in_every_chart_until_escape(tab: Tab) -> None:
    assert faded(tab) == 0
    row = tab.locator(f"{FIRST_BOARD} tr[data-run={A}]")
    row.click()
    expect(tab.locator("#picked")).to_contain_text(f"picked: cnn {A[:8]}")
    expect(row).to_have_attribute("aria-current", "true")
    expect(tab).to_have_url(re.compile(rf"#run={A}$"))
    tab.wait_for_timeout(100)
    assert faded(tab) > 0
    tab.keyboard.press("Escape")
    expect(tab.locator("#picked")).to_be_empty()
    expect(row).not_to_have_attribute("aria-current", "true")
    tab.wait_for_timeout(100)
    assert faded(tab) == 0
    assert "#" not in tab.url


def test_a_row_is_picked_by_key_and_let_go_by_the_button(tab: Tab) -> None:
    """Its id is the button: what else is in the row is no stop on the way through the page."""
    assert tab.locator("tr[tabindex]").count() == 0
    button = tab.locator(f"{FIRST_BOARD} tr[data-run={B}]").get_by_role("button", name=B[:8])
    for key in ("Enter", "Space"):
        button.focus()
        tab.keyboard.press(key)
        expect(tab.locator("#picked")).to_contain_text(B[:8])
        expect(button).to_have_attribute("aria-pressed", "true")
        tab.locator("#picked button").click()
        expect(tab.locator("#picked")).to_be_empty()
        expect(button).to_have_attribute("aria-pressed", "false")


def test_a_mark_picks_its_run(tab: Tab) -> None:
    mark = tab.locator("#figure-tradeoff .mark-symbol.role-mark path").last
    mark.scroll_into_view_if_needed()
    mark.click()
    expect(tab.locator("#picked")).to_contain_text("picked:")
    assert tab.locator(f"{FIRST_BOARD} tr[aria-current]").count() == 1


def test_a_picked_run_of_unknown_energy_empties_no_chart(tab: Tab) -> None:
    chart = tab.locator("#figure-elsewhere .chart")
    expect(chart).not_to_contain_text("unknown")
    tab.locator(f"{FIRST_BOARD} tr[data-run={F}]").click()
    expect(chart).to_contain_text("unknown")
    expect(chart).to_contain_text("Norway")


def test_an_address_points_at_a_run(visit: Visitor, address: str) -> None:
    tab = visit(f"{address}#run={B[:6]}")
    expect(tab.locator("#picked")).to_contain_text(B[:8])
    tab.wait_for_timeout(100)
    assert faded(tab) > 0


def test_a_chart_is_saved_without_a_network(tab: Tab, tmp_path: Path) -> None:
    for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with tab.expect_download() as waiting:
            tab.locator("#figure-tradeoff").get_by_role("button", name=kind).click()
        waiting.value.save_as(tmp_path / kind)
        assert waiting.value.suggested_filename == f"tradeoff.{kind.lower()}"
        assert (tmp_path / kind).read_bytes().startswith(begins)


def test_a_saved_chart_can_be_read_by_night(visit: Visitor, address: str, tmp_path: Path) -> None:
    """Its letters are dark, so that it is white; the page's own stays as it was."""
    tab = visit(address, color_scheme="dark")
    figure = tab.locator("#figure-tradeoff")
    before = figure.locator("svg").get_attribute("style")
    for kind in ("SVG", "PNG"):
        with tab.expect_download() as waiting:
            figure.get_by_role("button", name=kind).click()
        waiting.value.save_as(tmp_path / kind)
    assert re.search(r'<rect width="\d+" height="\d+" fill="white"', (tmp_path / "SVG").read_text())
    with Image.open(tmp_path / "PNG") as image:
        assert image.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)
    expect(figure.locator("svg")).to_have_attribute("style", str(before))


def test_a_mark_says_more_where_the_mouse_is(tab: Tab) -> None:
    mark = tab.locator("#figure-tradeoff .mark-symbol.role-mark path").last
    mark.scroll_into_view_if_needed()
    mark.hover()
    expect(tab.locator("#vg-tooltip-element")).to_contain_text("energy")


def brightness(colour: str) -> float:
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_by_day_and_by_night(visit: Visitor, address: str, scheme: str) -> None:
    tab = visit(address, color_scheme=scheme)
    ground = brightness(tab.eval_on_selector("body", "(body) => getComputedStyle(body).backgroundColor"))
    for selector, part in (("body", "color"), (".chart text", "fill"), ("td", "color"), ("figcaption", "color")):
        shown = brightness(tab.eval_on_selector(selector, f"(found) => getComputedStyle(found).{part}"))
        assert abs(shown - ground) > 95, selector
        assert (shown > ground) == (scheme == "dark"), selector


def test_a_phone_scrolls_down_and_never_sideways(visit: Visitor, address: str) -> None:
    tab = visit(address, viewport={"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "auto"


def test_no_chart_is_shrunk_on_a_phone(visit: Visitor, tmp_path: Path) -> None:
    """Two splits, long names, and more than stand side by side: narrower where it can be, else scrolled."""
    store = Store(tmp_path / "greenml.duckdb", timeout_s=5)
    store.check()
    for i in range(6):
        changes: dict[str, Any] = {
            "model": f"mobilenetv{i}_small_100",
            "dataset": "folder:flowers",
            "data_hash": f"{i % 2}" * 6,
        }
        for seed in (0, 1, 2):
            record(store, f"{i}{seed}" * 6, [0.5, 0.9], [1e4, 1e4 + seed], seed=seed, group_hash=f"g{i}", **changes)
    tab = visit(write(store, tmp_path / "report.html"), viewport={"width": 390, "height": 844})
    widths = tab.evaluate(
        "[...document.querySelectorAll('.chart')].map((chart) => [chart.dataset.figure, chart.className,"
        " chart.clientWidth, chart.querySelector('svg').getBoundingClientRect().width,"
        " Number(chart.querySelector('svg').getAttribute('width'))])"
    )
    assert {name for name, *_ in widths} >= {"leaderboard", "tradeoff", "learning", "repeats"}
    for name, kind, room, shown, drawn in widths:
        assert shown == pytest.approx(drawn, abs=1), name
        assert drawn <= room + 1 or "fits" not in kind.split(), name
    scrolled = {name for name, kind, *_ in widths if "fits" not in kind.split()}
    assert scrolled >= {"leaderboard", "repeats"}, "side by side, or beside names that leave no plot"
    assert not scrolled & {"tradeoff", "learning", "timeline"}


def test_print_opens_what_is_folded_and_leaves_out_the_buttons(tab: Tab) -> None:
    tab.emulate_media(media="print", color_scheme="dark")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    for hidden in ("nav", ".save", ".skip"):
        expect(tab.locator(hidden).first).to_be_hidden()
    assert brightness(tab.eval_on_selector("body", "(body) => getComputedStyle(body).backgroundColor")) == 255
    tab.emulate_media(media="screen", color_scheme="light")
    tab.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = false))")


def test_without_scripts_it_still_reads(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    tab = context.new_page()
    tab.goto(address)
    assert "The charts need JavaScript" in tab.inner_text("main")
    assert A[:8] in tab.inner_text(FIRST_BOARD)
    assert "Escape clears" not in tab.inner_text("main")
    context.close()


def test_no_name_runs(visit: Visitor, tmp_path: Path) -> None:
    store = Store(tmp_path / "greenml.duckdb", timeout_s=5)
    store.check()
    changes: dict[str, Any] = {"name": HOSTILE, "model": HOSTILE, "dataset": HOSTILE, "precision": HOSTILE}
    for seed, run_id in enumerate((A, B)):
        record(store, run_id, [0.5, 0.9], [100.0, 100.0 + seed], seed=seed, group_hash="g", **changes)
    tab = visit(write(store, tmp_path / "report.html"))
    assert tab.locator("img").count() == 0
    tab.locator(f"{FIRST_BOARD} tr[data-run={A}]").click()
    expect(tab.locator("#picked")).to_contain_text("<img src=x onerror=alert(1)>")
    mark = tab.locator("#figure-tradeoff .mark-symbol.role-mark path").last
    mark.scroll_into_view_if_needed()
    mark.hover()
    assert tab.locator("img").count() == 0
