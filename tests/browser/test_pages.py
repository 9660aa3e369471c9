"""The pages as a person meets them: in a real browser, wide and narrow, light and dark, by eye, by key and by ear."""

from itertools import pairwise

import pytest
from chromium import (
    NEEDED,
    SCHEMES,
    WIDTHS,
    NoBrowserError,
    errors,
    headings,
    pale_texts,
    pictures,
    programs,
    reachable,
    show,
    small_texts,
    sticks_out,
    tab_order,
)

PAGES = ("report", "compare", "atlas")


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_silent_whole_and_readable(driver, pages, page, width, scheme):
    show(driver, pages[page], width, scheme)
    assert errors(driver) == []
    found = pictures(driver)
    assert found, "no figure at all"
    assert [picture for picture in found if not picture["drawn"]] == []
    assert [picture for picture in found if not picture["name"]] == []
    assert sticks_out(driver) == []
    assert pale_texts(driver) == []
    assert small_texts(driver) == []


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_everything_is_reached_by_the_key_in_the_order_of_the_page(driver, pages, page):
    show(driver, pages[page])
    reached = tab_order(driver)
    places = [at["place"] for at in reached]
    assert places == sorted(places)
    assert len(reached) >= min(reachable(driver), 60)
    assert [at for at in reached if not at["seen"]] == [], "one does not see where one is"
    assert [at for at in reached if not at["name"]] == []


@pytest.mark.browser
@pytest.mark.parametrize("page", PAGES)
def test_headings_are_a_tree(driver, pages, page):
    show(driver, pages[page])
    levels = headings(driver)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


@pytest.mark.browser
def test_dark_is_dark(driver, pages):
    grounds = {}
    for scheme in SCHEMES:
        show(driver, pages["report"], scheme=scheme)
        grounds[scheme] = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert grounds["light"] != grounds["dark"]


PIXELS = "return document.querySelector('canvas').toDataURL()"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", SCHEMES)
def test_people_of_the_atlas_turn_by_hand_and_by_key(driver, pages, scheme):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(driver, pages["atlas"], scheme=scheme)
    canvas = driver.find_element(By.TAG_NAME, "canvas")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    seen = [driver.execute_script(PIXELS)]

    def changed() -> bool:
        seen.append(driver.execute_script(PIXELS))
        return seen[-1] != seen[-2]

    ActionChains(driver).click_and_hold(canvas).move_by_offset(60, 15).release().perform()
    assert changed(), "the hand turns nothing"
    ActionChains(driver).move_by_offset(20, 0).perform()
    assert not changed(), "it turns after the hand has let go"
    canvas.send_keys(Keys.ARROW_LEFT)
    assert changed(), "the key turns nothing"
    canvas.send_keys(Keys.HOME)
    assert changed()
    assert seen[-1] == seen[0], "home is not where it began"
    driver.find_element(By.CSS_SELECTOR, "[data-step='1']").click()
    assert changed(), "there is no next person"
    assert errors(driver) == []


@pytest.mark.browser
def test_mlflow_shows_each_page_that_is_named(driver, mlflow_pages):
    """The pages are MLflow's, and ask for what its server lacks: what counts is that our runs are found and drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    assert len(mlflow_pages) == 3
    for what, address in mlflow_pages:
        driver.get("about:blank")
        show(driver, address)
        WebDriverWait(driver, 60).until(lambda browser: "quickstart" in text_of(browser), what)
        assert "went wrong" not in text_of(driver), what
        assert [line for line in errors(driver) if "Uncaught" in line or "status of 5" in line] == [], what


def text_of(driver) -> str:
    return driver.execute_script("return document.body.innerText")


@pytest.mark.browser
def test_what_is_asked_of_a_page_sees_faults(driver, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><body style='background:#fff'><h1>x</h1><h3>y</h3><img src='none.png'>"
        "<p style='color:#ccc'>pale</p><p style='font-size:6px'>small</p><div style='width:3000px'>wide</div>"
        "<a href='#' style='outline:none'></a><script>nothing()</script>"
    )
    show(driver, bad, 390)
    assert errors(driver)
    assert [(p["drawn"], p["name"]) for p in pictures(driver)] == [(False, "")]
    assert sticks_out(driver) and pale_texts(driver) and small_texts(driver)
    assert headings(driver) == [1, 3]


def test_without_a_browser_one_command_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NoBrowserError, match=NEEDED):
        programs()
