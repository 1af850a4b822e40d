"""In a real browser the page works: with a mouse, from the keyboard, in a narrow window, on paper and without JavaScript.

It also asks for nothing: no request leaves it and its console stays empty, whatever the names in it are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infl.report.page import PageContent, write_page

pytest.importorskip("selenium", reason="selenium, of the extra test, drives the browser")

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"),
]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,900"
)


class Browser:
    """Chromium with one page open at a time."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1400, theme: str = "light", javascript: bool = True) -> None:
        self.driver.get("about:blank")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # what came before is gone
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)
        media = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": k, "value": v} for k, v in media.items()])
        self.cdp("Emulation.setScriptExecutionDisabled", value=not javascript)
        self.driver.get(path.as_uri())

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def actions(self) -> ActionChains:
        return ActionChains(self.driver, duration=0)

    def column(self, table: str, number: int) -> list[str]:
        """Texts of the cells of one column in the rows that are shown, read by script: it is one call."""
        rows = f"[...document.querySelectorAll('#{table} tbody tr')].filter(row => !row.hidden)"
        return self.run(f"{rows}.map(row => row.cells[{number}].textContent.trim())")

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """Whatever a test does, the console stays empty."""
    yield chromium
    assert chromium.driver.get_log("browser") == []


@pytest.fixture
def page(make_page_content: Callable[..., PageContent], tmp_path: Path) -> Path:
    write_page(make_page_content(), tmp_path / "page.html")
    return tmp_path / "page.html"


def test_it_loads_in_silence(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.driver.title == "infl report: made up"
    assert browser.requests() == [page.as_uri()]
    assert browser.driver.get_log("browser") == []
    assert browser.run("document.querySelectorAll('.tools').length") == 3  # the script ran to its end


def test_hostile_names_stay_text(
    browser: Browser, make_page_content: Callable[..., PageContent], hostile_names: tuple[str, ...], tmp_path: Path
) -> None:
    write_page(make_page_content(hostile_names), tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    # An alert, had one opened, would fail every command from here on.
    assert browser.run("document.querySelectorAll('img, iframe, object, embed, script').length") == 1
    assert browser.column("sets-table", 1)[:4] == [name.strip() for name in hostile_names[:4]]
    for number in (1, 2):
        label = browser.one(f"a.hit[data-set='{number}']").get_attribute("aria-label")
        assert str(label).startswith(f"{hostile_names[number - 1]}: ")
    assert browser.driver.get_log("browser") == []
    assert browser.requests() == [(tmp_path / "page.html").as_uri()]


def mark(browser: Browser, number: int) -> WebElement:
    """The measured mark of a set, in the middle of the window."""
    found = browser.all(f'a.hit[data-set="{number}"] use')[-1]
    browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", found)
    return found


def test_clicking_a_mark_opens_its_card(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.all("details.card[open]") == []
    browser.actions().move_to_element(mark(browser, 3)).click().perform()
    (card,) = browser.all("details.card[open]")
    assert card.get_attribute("data-set") == "3"
    assert browser.focused() == browser.one(".card[data-set='3'] > summary")
    assert browser.run("location.hash") == "#set-3"
    assert "copies" in card.text
    assert card.find_element(By.CSS_SELECTOR, ".gallery .picture").is_displayed()
    for event, n_open in (("beforeprint", 9), ("afterprint", 1)):  # all is open while it is printed
        browser.run(f"dispatchEvent(new Event('{event}'))")
        assert len(browser.all("details[open]")) == n_open


def test_the_keyboard_reaches_every_mark_and_opens_a_card(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelector('nav a:last-child').focus()")
    seen = []
    for _ in range(7):
        browser.actions().send_keys(Keys.TAB).perform()
        seen.append(browser.focused().get_attribute("data-set"))
    assert seen == ["1", "2", "3", "4", "5", "6", "8"]  # the seventh has no estimate
    browser.actions().send_keys(Keys.ENTER).perform()
    assert browser.all("details.card[open]")[0].get_attribute("data-set") == "8"
    browser.actions().send_keys(Keys.SPACE).perform()
    assert browser.all("details.card[open]") == []


def test_tables_are_sorted_by_number_and_by_word(browser: Browser, page: Path) -> None:
    browser.open(page)
    for _ in range(2):
        browser.one("#sets-table th:nth-child(2) button").click()
    assert browser.column("sets-table", 1) == sorted(browser.column("sets-table", 1), reverse=True)
    button = browser.one("#sets-table th:nth-child(8) button")
    button.click()
    selfs = browser.column("sets-table", 7)
    known = [float(text.split(" ")[0]) for text in selfs[:-1]]
    assert known == sorted(known, reverse=True)
    assert selfs[-1] == "–"
    assert browser.one("#sets-table th:nth-child(8)").get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.ENTER)
    selfs = browser.column("sets-table", 7)
    assert [float(text.split(" ")[0]) for text in selfs[:-1]] == sorted(known)
    assert selfs[-1] == "–"  # what is unknown comes last either way
    browser.one("#sets-table th:nth-child(2) button").click()
    assert browser.column("sets-table", 1) == sorted(browser.column("sets-table", 1))
    assert len(browser.all("th[aria-sort]")) == 1
    browser.one("#pairs-table th:nth-child(4) button").click()
    assert browser.column("pairs-table", 3) == ["0.75 ± 0.05", "−0.25 ± 0.04"]


def test_filters_leave_out_rows_marks_and_cards(browser: Browser, page: Path) -> None:
    browser.open(page)
    words, predicted, *_ = browser.all("#sets .tools input, #sets .tools select")
    words.send_keys("cl")
    assert browser.column("sets-table", 1) == ["a class", "cluster"]
    assert [hit.get_attribute("data-set") for hit in browser.all("a.hit:not(.out)")] == ["2", "5"]
    assert [card.get_attribute("data-set") for card in browser.all(".card") if card.is_displayed()] == ["2", "5"]
    assert browser.one("#sets .tools span").text == "2 of 8"
    predicted.send_keys("no-op")
    assert browser.column("sets-table", 1) == ["a class"]
    words.send_keys(Keys.CONTROL, "a", Keys.DELETE)
    assert browser.column("sets-table", 1) == ["a class", "unknown"]
    assert browser.column("pairs-table", 3) == ["0.75 ± 0.05", "−0.25 ± 0.04"]  # each table has its own


def test_a_narrow_window_scrolls_tables_and_nothing_else(browser: Browser, page: Path) -> None:
    browser.open(page, width=320, theme="dark")
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert all(int(part) < 60 for part in paper[paper.index("(") + 1 : -1].split(",")[:3])
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.run("document.documentElement.scrollWidth") <= 320
    assert browser.run("document.querySelector('svg.figure').getBoundingClientRect().width") > 0.85 * 320
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert browser.run(wide) > 0


def test_without_javascript_it_is_plain_tables_and_cards_that_open(browser: Browser, page: Path) -> None:
    browser.open(page, javascript=False)
    try:
        assert browser.all(".tools, th button") == []
        assert len(browser.all("#sets-table tbody tr")) == 8
        assert browser.one("#pairs-table").is_displayed()
        browser.one(".card[data-set='2'] > summary").click()
        assert browser.one("#set-2 .gallery").is_displayed()
        for link, number in (("#sets-table tbody tr:nth-child(4) a", 4), ("a.hit[data-set='3'] use", 3)):
            assert not browser.one(f"#set-{number}").is_displayed()
            browser.actions().move_to_element(browser.all(link)[-1]).click().perform()
            assert browser.one(f"#set-{number} .gallery").is_displayed()
    finally:
        browser.cdp("Emulation.setScriptExecutionDisabled", value=False)
