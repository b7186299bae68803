"""The report in a real browser: it sorts, filters, switches its theme, leads everywhere, and asks for nothing.

Needs playwright (the extra `dev`) and a Chromium on the path; no browser is downloaded.
"""

import shutil
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

import pytest
from records_factory import PAYLOADS, make_record, planted, quick_suite, reference, seeds_of, write_runs

from genbench.report import build_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CUT_SHORT = "net::ERR_ABORTED"
"""By the next page: a picture that loads when it comes into sight. One that is missing fails otherwise."""
GLANCE = "#glance-1-1-caption"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `dev`)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Two datasets, a diverged seed, and the same as one file."""
    folder = tmp_path_factory.mktemp("browser")
    records = [*quick_suite(), *seeds_of("mine", [50.0, None]), make_record("a-" + "long-" * 12 + "name", fid=300.0)]
    records += [make_record(name, dataset="other", digest="c" * 64) for name in ("ddpm", "vae")]
    records = write_runs([*records, reference("real", dataset="other", digest="c" * 64)], folder / "runs")
    build_report(records, folder / "one", form="single_file")
    return build_report(records, folder / "out").parent


@contextmanager
def tab(browser, **settings):
    """A page, and what it said and asked for: nothing but files and data, without a word on the console."""
    context = browser.new_context(**({"viewport": DESKTOP} | settings))
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on(
        "requestfailed", lambda request: request.failure == CUT_SHORT or told.append(f"failed: {request.url[:200]}")
    )
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or told.append(request.url))
    yield page
    context.close()
    assert told == []


def names(page, caption=GLANCE):
    """The models of a table that are shown, from the top."""
    table = page.locator("table", has=page.locator(caption))
    return [text.split("\n")[0] for text in table.locator("tr.model:visible th").all_inner_texts()]


def head(page, words, caption=GLANCE):
    return page.locator("table", has=page.locator(caption)).locator("thead th", has_text=words).first


def test_every_link_of_every_page_leads_somewhere_and_no_page_is_wider_than_the_screen(browser, report):
    seen, waiting = set(), [report / "index.html"]
    with tab(browser) as page:
        while waiting:
            file = waiting.pop()
            seen.add(file)
            page.goto(file.as_uri())
            for size in (DESKTOP, PHONE):
                page.set_viewport_size(size)
                assert page.evaluate(OVERFLOW) <= 0, (file.name, size)
            for link in page.evaluate("[...document.links].map((link) => link.href)"):
                target, anchor = report.__class__(unquote(urlsplit(link).path)), urlsplit(link).fragment
                assert target.is_file() and target.is_relative_to(report), link
                if target == file and anchor:
                    assert page.locator(f'[id="{anchor}"]').count() == 1, link
                if target.suffix == ".html" and target not in seen and target not in waiting:
                    waiting.append(target)
    assert seen == set(report.rglob("*.html"))


def test_a_table_sorts_by_mouse_and_keyboard_and_a_failure_never_comes_first(browser, report):
    with tab(browser) as page:
        page.goto((report / "index.html").as_uri())
        given = names(page)
        assert given[0] == "gan" and given[-1] == "mine"
        bits = head(page, "bits/dim")
        bits.get_by_role("button").click()
        assert bits.get_attribute("aria-sort") == "ascending"
        up = names(page)
        assert up[:3] == ["a-" + "long-" * 12 + "name", "ddpm", "vae"]
        assert up.index("mine") == len(up) - 3 and set(up[-2:]) == {"gan", "ldm"}, "the unfinished, then the dashes"
        bits.get_by_role("button").press("Enter")
        down = names(page)
        assert bits.get_attribute("aria-sort") == "descending"
        assert down[0] == "gaussian" and down[-3:] == up[-3:]
        bits.get_by_role("button").press("Space")
        assert bits.get_attribute("aria-sort") is None and names(page) == given
        head(page, "FID test").get_by_role("button").click()
        assert names(page) == given, "its mean over the one seed that finished is the lowest"


def test_rows_are_filtered_by_all_words_and_counted(browser, report):
    with tab(browser) as page:
        page.goto((report / "runs.html").as_uri())
        rows = page.locator("tbody tr:visible")
        total = rows.count()
        page.get_by_label("Filter rows").fill("OTHER ddpm")
        assert rows.count() == 1 and f"1 of {total}" in page.get_by_role("status").inner_text()
        page.get_by_label("Filter rows").fill("diverged")
        assert rows.count() == 1 and "mine" in rows.first.inner_text()
        page.get_by_label("Filter rows").fill("")
        assert rows.count() == total


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_is_the_readers_until_chosen_and_then_stays(browser, report):
    with tab(browser, color_scheme="dark") as page:
        page.goto((report / "index.html").as_uri())
        dark = ground(page)
        assert page.locator("img.dark").first.is_visible() and not page.locator("img.light").first.is_visible()
        page.get_by_role("button", name="Theme: auto").click()
        light = ground(page)
        assert light != dark
        assert page.locator("img.light").first.is_visible() and not page.locator("img.dark").first.is_visible()
        page.get_by_role("link", name="Protocols", exact=True).click()
        page.wait_for_url("**/protocols.html")
        page.get_by_role("button", name="Theme: light").wait_for()
        assert ground(page) == light
        page.get_by_role("button", name="Theme: light").press("Enter")
        assert ground(page) == dark
        page.emulate_media(color_scheme="light")
        assert ground(page) == dark
        page.get_by_role("button", name="Theme: dark").click()
        assert ground(page) == light


def test_without_script_the_pages_are_whole(browser, report):
    with tab(browser, java_script_enabled=False, color_scheme="dark") as page:
        page.goto((report / "index.html").as_uri())
        assert names(page)[0] == "gan" and page.locator("img.dark").first.is_visible()
        assert not page.locator("button:visible").count()


def test_the_one_file_shows_a_page_at_a_time_and_leads_everywhere(browser, report):
    with tab(browser) as page:
        page.goto((report.parent / "one.html").as_uri())
        assert page.locator(".page:visible").count() == 1 and page.locator("#index").is_visible()
        page.get_by_role("link", name="Protocols", exact=True).click()
        assert page.locator(".page:visible").count() == 1 and page.locator("#protocols").is_visible()
        page.go_back()
        page.locator("#index a.number").first.click()
        assert page.locator("#protocols :target").is_visible() and page.locator(".page:visible").count() == 1
        for section in page.locator(".page").all():
            page.evaluate("(id) => { location.hash = id; }", section.get_attribute("id"))
            assert section.is_visible() and page.locator(".page:visible").count() == 1
            for size in (DESKTOP, PHONE):
                page.set_viewport_size(size)
                assert page.evaluate(OVERFLOW) <= 0, section.get_attribute("id")
        shown = page.evaluate("[...document.images].every((image) => image.alt && image.src.startsWith('data:'))")
        assert shown and page.evaluate("[...document.images].some((image) => image.naturalWidth > 0)")


def test_hostile_names_do_nothing_in_pages_sorting_or_filter(browser, tmp_path):
    records = planted(PAYLOADS, PAYLOADS[1])
    one = build_report(records, tmp_path / "one", form="single_file")
    folder = build_report(records, tmp_path / "out").parent
    with tab(browser) as page:
        for file in (one, *folder.glob("*.html"), *folder.glob("datasets/*.html")):
            page.goto(file.as_uri())
            assert page.evaluate(OVERFLOW) <= 0, file.name
            for button in page.locator("thead button:visible").all()[:3]:
                button.click()
        page.goto((folder / "runs.html").as_uri())
        for payload in PAYLOADS[:6]:
            page.get_by_label("Filter rows").fill(payload)
            assert page.locator("tbody tr:visible").count() >= 2
