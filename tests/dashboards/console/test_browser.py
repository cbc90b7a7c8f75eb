"""The console in Debian's Chromium, by keyboard alone."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dashboards.console import response
from gateway.ledger import alerts, audit, enforcement
from gateway.ledger.database import Database
from tests.dashboards import seed

pytestmark = pytest.mark.browser

AXE = Path(__file__).parent.parent / "axe" / "axe.min.js"
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900")


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    """Serve the console on a free loopback port and return its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the console did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def chrome(require_program: Callable[[str, str], str]) -> Iterator[Chrome]:
    """Start Chromium without a window; whatever it or the page's policy complains about is kept."""
    options = ChromeOptions()
    options.binary_location = require_program("chromium", "chromium")
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(require_program("chromedriver", "chromium-driver")))
    yield driver
    driver.quit()


class Hands:
    """Types into whatever has the focus, as a person does."""

    def __init__(self, chrome: Chrome) -> None:
        self.chrome = chrome

    def type(self, *keys: str) -> None:
        """Send keys to the focused element."""
        self.chrome.switch_to.active_element.send_keys(*keys)

    def sees(self, words: str) -> None:
        """Wait until the page says something, and listens to keys."""
        # A page that is replaced while it is read is read again.
        wait = WebDriverWait(self.chrome, 15, ignored_exceptions=[StaleElementReferenceException])
        wait.until(lambda chrome: words in chrome.find_element(By.TAG_NAME, "body").text)
        wait.until(lambda chrome: chrome.execute_script("return document.readyState") == "complete")

    def focus(self) -> Any:
        """Return the focused element."""
        return self.chrome.switch_to.active_element


@pytest.fixture
def hands(chrome: Chrome, address: str) -> Hands:
    """Log mara in by keyboard; the name has the focus, tab leads to the password."""
    chrome.get(f"{address}/")
    hands = Hands(chrome)
    # The browser gives the focus a frame after it says that the page is loaded; keys before it are lost.
    WebDriverWait(chrome, 10).until(lambda _: hands.focus().get_attribute("name") == "name")
    hands.type("mara", Keys.TAB, seed.PASSWORD, Keys.ENTER)
    hands.sees("Logged in as mara")
    return hands


def complaints(chrome: Chrome) -> list[str]:
    """Return what the browser logged: script errors, failed requests, violations of the policy."""
    return [str(entry["message"]) for entry in chrome.get_log("browser")]  # type: ignore[no-untyped-call]


def test_an_alert_is_decided_by_keyboard(
    hands: Hands, chrome: Chrome, database: Database, open_alerts: dict[str, str]
) -> None:
    """From the queue to a suspension in force without a pointer, and nothing on the way complains."""
    hands.type("j", "j", "k")
    assert hands.focus().text == "tallow-research"
    hands.type(Keys.ENTER)
    hands.sees("What leaked")
    hands.type("e")
    assert hands.focus().text == "What leaked"
    hands.sees("stops 100")
    hands.type("6")
    assert hands.focus().get_attribute("id") == "note"
    assert chrome.find_element(By.ID, "finding").get_attribute("value") == "harvesting"
    button = chrome.find_element(By.CSS_SELECTOR, "form.decide button")
    assert button.text.startswith("Suspend tallow-research for 7 days")
    hands.type("Five hundred questions, none of them twice.", Keys.CONTROL, Keys.ENTER)
    hands.sees("Suspended, on every worker within a second.")
    with database.read() as connection:
        alert = alerts.get(connection, open_alerts["tallow-research"])
        assert enforcement.in_force(connection)["tallow-research"].action == "suspend"
    assert (alert.operator, alert.note) == ("mara", "Five hundred questions, none of them twice.")
    hands.type(Keys.NULL, "n")
    hands.sees("kitesurf-labs")
    assert complaints(chrome) == []


def test_a_dismissal_asks_what_it_was(hands: Hands, chrome: Chrome) -> None:
    """`x` leads to the list of findings, whose first letter chooses; then tab leads on to the note."""
    hands.type("j", Keys.ENTER)
    hands.sees("What leaked")
    hands.type("x")
    assert hands.focus().get_attribute("id") == "finding"
    hands.type("t")
    assert hands.focus().get_attribute("value") == "test_traffic"
    hands.type(Keys.TAB)
    assert hands.focus().get_attribute("id") == "note"
    hands.type("Our own load test.", Keys.CONTROL, Keys.ENTER)
    hands.sees("Dismissed.")
    hands.sees("test traffic")
    assert complaints(chrome) == []


def test_a_view_is_taken_and_decided_by_keyboard(hands: Hands, chrome: Chrome, database: Database) -> None:
    """Take an alert of the list, say what was seen, narrow the list, save the view, and decide about all of it."""
    hands.type("j", "a")
    hands.sees("you")
    assert hands.focus().text == "tallow-research", "the focus is where it was"
    hands.type(Keys.NULL, "v")
    hands.sees("nothing new since you looked")
    chrome.get(f"{chrome.current_url.split('?')[0]}?severity=low")
    hands.type("s")
    hands.type("quiet ones", Keys.ENTER)
    hands.sees("Remove the view quiet ones")
    hands.type("b")
    hands.sees("Whom it is about")
    hands.type("d")
    hands.type("d", Keys.TAB, "t", Keys.TAB, "Our own load test.", Keys.CONTROL, Keys.ENTER)
    hands.sees("2 alerts stand as it left them")
    hands.type(Keys.NULL, "c")
    hands.type("It was no load test.", Keys.ENTER)
    hands.sees("Taken back for 2 alerts")
    with database.read() as connection:
        assert alerts.count_open(connection) == 5
    assert complaints(chrome) == []


def test_a_ladder_that_can_not_be_estimated_says_so(
    hands: Hands, chrome: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page stands, says what is missing, and the alert can be decided all the same."""

    def broken(*_arguments: object) -> None:
        raise OSError("the lake is away")

    monkeypatch.setattr(response, "estimated", broken)
    hands.type("j", Keys.ENTER)
    hands.sees("It can be decided all the same")
    hands.type("6", "Clear enough without.", Keys.CONTROL, Keys.ENTER)
    hands.sees("Suspended, on every worker within a second.")


PAGES = (
    "/",
    "/?state=all&severity=high",
    "/?q=nothing+has+this",
    "/bulk?severity=low",
    "/accounts",
    "/accounts?by=model",
    "/accounts/novum-tutors",
    "/models",
    "/models/ticket-router@4",
    "/snapshots",
    f"/snapshots/{seed.SNAPSHOT}",
    "/policies",
    "/audit",
    "/notifications",
    "/nowhere",
)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(hands: Hands, chrome: Chrome, address: str, open_alerts: dict[str, str], theme: str) -> None:
    """Every page in both themes, an alert with its dialog of keys included: WCAG 2.2 A and AA, no violation."""
    source = AXE.read_bytes()
    assert hashlib.sha256(source).hexdigest() in (AXE.parent / "README.md").read_text()
    features = [{"name": "prefers-color-scheme", "value": theme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chrome.set_script_timeout(60)
    found = []
    for path in (*PAGES, f"/alerts/{open_alerts['tallow-research']}"):
        chrome.get(address + path)
        found += _violations(chrome, path)
    hands.sees("stops 100")
    hands.type("?")
    found += _violations(chrome, "the dialog of keys")
    chrome.delete_all_cookies()
    chrome.get(f"{address}/login")
    found += _violations(chrome, "/login")
    assert found == []


def _violations(chrome: Chrome, path: str) -> list[str]:
    chrome.execute_script(AXE.read_text())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    run = f"axe.run({{runOnly: {tags}}}).then(found => arguments[0](found.violations), error => arguments[0]([error]))"
    rows = chrome.execute_async_script(run)
    return [
        f"{path}: {row.get('id', row)}: {[node['html'][:160] for node in row.get('nodes', [])][:3]}" for row in rows
    ]


def test_prompts_are_revealed_by_keyboard(hands: Hands, chrome: Chrome, database: Database) -> None:
    """`r` leads to the reason, enter reveals, and the audit log has it."""
    hands.type("j", Keys.ENTER)
    hands.sees("Examples")
    assert "Saint-Malo" not in chrome.page_source
    hands.type("r")
    hands.type("To see what is asked", Keys.ENTER)
    hands.sees(seed.SECRET_PROMPT)
    with database.read() as connection:
        assert audit.recent(connection, limit=1)[0].action == "prompts.reveal"
    assert complaints(chrome) == []


def test_every_page_loads_without_a_complaint(
    hands: Hands, chrome: Chrome, address: str, open_alerts: dict[str, str]
) -> None:
    """No script error, no missing file and no violation of the policy anywhere; no page is wider than its window."""
    for width in (1400, 390):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for path in (*(path for path in PAGES if path != "/nowhere"), f"/alerts/{open_alerts['tallow-research']}"):
            chrome.get(address + path)
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, path
    assert complaints(chrome) == []


def test_keys_are_listed_and_can_be_switched_off(hands: Hands, chrome: Chrome, address: str) -> None:
    """`?` lists them; switched off there, single keys do nothing, and links and buttons still do."""
    hands.type("?")
    hands.sees("Single keys are on in this browser")
    chrome.find_element(By.ID, "keys-on").send_keys(Keys.SPACE)
    hands.type(Keys.ESCAPE)
    # Until the list is closed, the focus is on something in it that can't be typed into any more.
    WebDriverWait(chrome, 10).until(lambda _: not chrome.find_element(By.ID, "keys-on").is_displayed())
    hands.type("j")
    assert "main" not in (hands.focus().get_attribute("class") or "").split()
    chrome.get(f"{address}/accounts")
    hands.type("g", "q")
    assert chrome.current_url == f"{address}/accounts"


def test_the_policy_stops_what_is_inline(hands: Hands, chrome: Chrome) -> None:
    """Were markup ever to get into a page, the browser would not run it."""
    chrome.execute_script(
        "const evil = document.createElement('div');"
        "evil.innerHTML = '<img src=x onerror=\"document.title=1\">'; document.body.append(evil);"
    )
    WebDriverWait(chrome, 10).until(lambda _: "Content Security Policy" in str(complaints(chrome)))
    assert chrome.title.startswith("Queue")
