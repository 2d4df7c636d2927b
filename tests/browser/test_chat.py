"""The chat in headless Chromium: what a person with two tabs sees.

Chromium is the system's own (apt: chromium), driven by playwright without a browser download. The pictures that the
tests take are named at the end of the run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.demo import Demo

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",  # as root, Chromium asks for it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LONG_MS = 30_000

Tab = Callable[..., Page]

expect.set_options(timeout=15_000)  # a busy machine is no fault of the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """With a fresh user data directory, which playwright makes and removes."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium on this machine (apt: chromium; or name one: CHROMIUM=/path)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pictures() -> Path:
    """Where the pictures go: a new directory, or the one that PICTURES names."""
    named = os.environ.get("PICTURES")
    folder = Path(named) if named else Path(tempfile.mkdtemp(prefix="hybrid-layer-pictures-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def demo() -> Iterator[Demo]:
    with Demo() as demo:
        yield demo.start()
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
        assert "Traceback" not in demo.output


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1180, "height": 800}) as context:
        yield context


@pytest.fixture
def tab(context: BrowserContext, demo: Demo) -> Iterator[Tab]:
    """`tab(name)` opens the lobby in one more tab of the same browser; whatever its console says fails the test."""
    complaints: list[str] = []

    def open_tab(name: str, path: str = "/") -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{name}: {error}"))
        page.on("console", lambda message: complaints.append(f"{name}: {message.text}"))
        page.goto(demo.url + path)
        expect(page.locator("#line[data-state=open]")).to_be_visible()
        page.locator("#name").fill(name)
        page.locator("#name").press("Enter")
        return page

    yield open_tab
    # A server that ends is no fault of the page, and the browser always reports it.
    assert not [complaint for complaint in complaints if "WebSocket connection to" not in complaint]


def pid(page: Page) -> int:
    """The process that holds this page's socket, as the page says."""
    expect(page.locator("#line[data-state=open] .pid")).to_be_visible()
    return int(page.locator("#line .pid").inner_text().removeprefix("web "))


def say(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")


def last(page: Page, name: str) -> str:
    """The newest message of this person, with everything that stands around it."""
    return page.locator("#messages li:not(.event)", has=page.locator("b", has_text=name)).last.inner_text()


def part(page: Page, from_: Page) -> None:
    """Bring the page to another process than the other page's, by its own button."""
    for _ in range(10):
        if (before := pid(page)) != pid(from_):
            return
        page.locator("#move").click()
        try:
            expect(page.locator("#line .pid")).not_to_have_text(f"web {before}", timeout=3000)
        except AssertionError:
            continue  # the kernel gave the same process every time
    raise AssertionError("ten times six connections in a row went to the same process")


def test_two_tabs_of_two_processes(tab: Tab, demo: Demo, pictures: Path) -> None:
    ada, grace = tab("Ada"), tab("Grace")
    part(grace, from_=ada)
    web = {process.pid for process in demo.family() if "spawn_main" in " ".join(process.cmdline())}
    assert {pid(ada), pid(grace)} == web

    expect(ada.locator("#people li")).to_have_count(2)
    expect(grace.locator("#people")).to_contain_text("Ada")
    say(ada, "Good morning! Which process holds your socket?")
    expect(grace.locator("#messages")).to_contain_text("Good morning!")
    assert f"web {pid(ada)} → web {pid(grace)}" in last(grace, "Ada")
    say(grace, "Another one than yours <b>it seems</b> :-)")
    expect(ada.locator("#messages")).to_contain_text("Another one than yours <b>it seems</b> :-)")
    assert f"web {pid(grace)} → web {pid(ada)}" in last(ada, "Grace")
    assert f"web {pid(grace)}" in last(grace, "You")
    for page in (ada, grace):
        expect(page.locator("#web li")).to_have_count(2)

    ada.get_by_role("button", name="Whisper to Grace").click()
    say(ada, "This one only you can read.")
    expect(grace.locator("#messages li.private")).to_contain_text("This one only you can read.")
    ada.screenshot(path=pictures / "chat.png")


def test_the_jobs_progress_arrives(tab: Tab, demo: Demo, pictures: Path) -> None:
    ada, grace = tab("Ada"), tab("Grace")
    worker = demo.of_kind("runworker").pid
    ada.locator("#start").click()
    expect(ada.locator("#trail")).to_contain_text(f"worker {worker}")
    expect(ada.locator("#workers")).to_contain_text(f"worker {worker}")
    seen = set()
    expect(ada.locator("#progress[value]")).to_be_visible()
    while (value := float(ada.locator("#progress").get_attribute("value") or 0)) < 1:
        seen.add(value)
        if len(seen) == 8:
            ada.screenshot(path=pictures / "job.png")
        ada.wait_for_timeout(50)
    assert len(seen) > 10, f"the bar stood at {sorted(seen)} only"
    expect(ada.locator("#result")).to_have_text(re.compile(r"π ≈ 3\.1\d{4}"))
    expect(ada.locator("#start")).to_be_enabled()
    expect(grace.locator("#job")).to_be_hidden()


def test_killed_processes_are_got_over(tab: Tab, demo: Demo) -> None:
    ada, grace = tab("Ada"), tab("Grace")
    part(grace, from_=ada)
    killed = pid(grace)
    os.kill(killed, signal.SIGKILL)
    expect(grace.locator("#line .pid")).not_to_have_text(f"web {killed}")
    say(grace, "Back again")
    expect(ada.locator("#messages")).to_contain_text("Back again")
    # The other tab forgets the tabs that the killed process could not sign off.
    expect(ada.locator("#people li")).to_have_count(2, timeout=LONG_MS)

    demo.of_kind("runworker").kill()
    demo.wait_for("takes its place")
    ada.locator("#start").click()
    expect(ada.locator("#trail")).to_contain_text(f"worker {demo.of_kind('runworker').pid}")


def test_without_a_server_the_page_says_so_and_comes_back(context: BrowserContext, pictures: Path) -> None:
    with Demo() as demo:
        demo.start()
        page = context.new_page()
        page.goto(demo.url)
        expect(page.locator("#line[data-state=open]")).to_be_visible()
        demo.signal(signal.SIGTERM)
        assert demo.wait() == 0
        expect(page.locator("#line[data-state=closed]")).to_contain_text("Connection lost")
        page.locator("#text").fill("Still here")
        page.locator("#text").press("Enter")
        expect(page.locator("#text")).to_have_value("Still here")
        expect(page.locator("#send")).to_be_disabled()
        page.screenshot(path=pictures / "lost.png")
        with Demo(port=demo.port) as again:
            again.start()
            expect(page.locator("#line[data-state=open]")).to_be_visible(timeout=LONG_MS)
            page.locator("#text").press("Enter")
            expect(page.locator("#messages li.mine")).to_contain_text("Still here")
            again.signal(signal.SIGINT)
            assert again.wait() == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1180)])
def test_it_fits(tab: Tab, scheme: str, width: int, pictures: Path) -> None:
    """On a telephone and on a desk, light and dark: nothing sticks out, and every control has a name."""
    page = tab("Ada")
    page.set_viewport_size({"width": width, "height": 840})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for text in ("Hello", "A long address: https://example.org/" + "x" * 200, "And no server anywhere. " * 8):
        say(page, text)
    expect(page.locator("#messages li.mine")).to_have_count(3)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, button")]
           .filter((control) => !control.labels?.length && !control.textContent.trim()).map(({ id }) => id)"""
    )
    assert nameless == []
    page.screenshot(path=pictures / f"{scheme}-{width}.png", full_page=True)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1180), ("dark", 390)])
def test_inside_the_layer(
    tab: Tab, demo: Demo, context: BrowserContext, scheme: str, width: int, pictures: Path
) -> None:
    """Live numbers of channels and processes, which change while a job runs; nothing sticks out."""
    ada = tab("Ada")
    worker = demo.of_kind("runworker").pid
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.set_viewport_size({"width": width, "height": 840})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{demo.url}/inside/")
    expect(page.locator("#line[data-state=open]")).to_contain_text("machine")
    expect(page.locator("#processes")).to_contain_text(str(worker))
    ada.locator("#start").click()
    expect(page.locator("#channels")).to_contain_text("jobs")
    expect(page.locator("#sent")).to_have_text(re.compile(r"^[1-9]"))
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    page.screenshot(path=pictures / f"inside-{scheme}-{width}.png", full_page=True)
    assert complaints == []


def test_lists_are_bounded(tab: Tab) -> None:
    page = tab("Ada")
    page.evaluate(
        """() => {
            for (let number = 0; number < 230; number++) {
                const item = document.createElement("li");
                document.getElementById("messages").append(item);
            }
        }"""
    )
    say(page, "The last one")
    expect(page.locator("#messages")).to_contain_text("The last one")
    assert page.locator("#messages li").count() == 200
