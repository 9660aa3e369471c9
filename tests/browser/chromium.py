"""A headless Chromium and what is asked of a page in it: is it silent, is it whole, can it be read and reached."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NEEDED = "apt-get install --no-install-recommends chromium chromium-driver"
WIDTHS = (1280, 390)  # px: a desk, a phone
SCHEMES = ("light", "dark")
LOOK = (Path(__file__).parent / "look.js").read_text()


class NoBrowserError(RuntimeError):
    """There is no Chromium here."""


def programs() -> tuple[str, str]:
    """Chromium and its driver. NoBrowserError says how to get them."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "chromium" if browser is None else "chromedriver"
        raise NoBrowserError(f"{missing} is not installed: {NEEDED}")
    return browser, driver


@contextmanager
def chromium() -> Iterator[Any]:
    """A driver of selenium; nothing is fetched from the network, the pages are files."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    # No name is looked up: a page that asks for anything from elsewhere fails, and is seen to.
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield made
    finally:
        made.quit()


def show(driver: Any, page: Path | str, width: int = 1280, scheme: str = "light") -> None:
    """Opens a page at a width and in a colour scheme; waits until its pictures are there."""
    address = page.resolve().as_uri() if isinstance(page, Path) else page
    phone = width < 700
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844 if phone else 800, "deviceScaleFactor": 2 if phone else 1, "mobile": phone},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    driver.get(address)
    driver.execute_async_script(
        "const done = arguments[0];"
        "for (const part of document.querySelectorAll('details')) part.open = true;"
        "for (const image of document.images) image.loading = 'eager';"
        "Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => done())"
    )


def errors(driver: Any) -> list[str]:
    """What the console says that is an error or a warning."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def ask(driver: Any, question: str, *given: Any) -> Any:
    """The answer of a function of look.js."""
    return driver.execute_script(f"{LOOK}\nreturn {question}(...arguments);", *given)


def pictures(driver: Any) -> list[dict[str, Any]]:
    """Every picture and figure: whether it is drawn, and what it is called for who does not see it."""
    return ask(driver, "pictures")


def sticks_out(driver: Any) -> list[str]:
    """What is wider than the page and in no frame of its own that scrolls."""
    return ask(driver, "sticksOut")


def pale_texts(driver: Any) -> list[str]:
    """Texts with less contrast than WCAG's AA asks."""
    return ask(driver, "paleTexts")


def small_texts(driver: Any, least_px: float = 11.0) -> list[str]:
    """Texts that are too small to be read."""
    return ask(driver, "smallTexts", least_px)


def tab_order(driver: Any, most: int = 60) -> list[dict[str, Any]]:
    """What the tab key reaches, in turn."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    driver.execute_script("document.activeElement?.blur(); window.scrollTo(0, 0)")
    found: list[dict[str, Any]] = []
    for _ in range(most):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        at = ask(driver, "reached")
        if at is None or (found and at["place"] == found[0]["place"]):
            break
        found.append(at)
    return found


def reachable(driver: Any) -> int:
    """How many links, buttons and summaries there are to be reached."""
    return ask(driver, "reachable")


def headings(driver: Any) -> list[int]:
    """The levels of the headings in turn."""
    return ask(driver, "headings")
