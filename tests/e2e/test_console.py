"""From the form in the console to a streamed answer, and back to nothing, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.system import Stream, System
from tests.support.browser import chromium, watched
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

NAME, ENGINE = "by-console", "simulator"
READY_WITHIN_MS = 60_000
GONE_WITHIN_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def _log_in(page: Page, endpoints: dict[str, str]) -> None:
    """As a person does, with what `make up` has printed."""
    page.goto(f"{endpoints['console']}/login")
    page.get_by_label("User name").fill(endpoints["admin_user"])
    page.get_by_label("Password").fill(endpoints["admin_password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="New deployment")).to_be_visible()


def _fill(page: Page) -> None:
    """One replica of the example model in the EU alone, on the simulator: real vLLM serves the example (test_road)."""
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Model").select_option("tiny-llama")
    page.get_by_label("Engine").select_option(ENGINE)
    page.get_by_label("Minimum").fill("1")
    page.get_by_label("Maximum").fill("1")
    page.get_by_role("group", name="May be served in").get_by_label("eu").check()


def _assert_chats(system: System) -> None:
    """A streamed chat through the OpenAI SDK comes to its end, with as many tokens as were asked for."""
    stream = Stream(system.openai(), NAME, max_tokens=16).result()
    assert stream.error is None
    assert stream.pieces
    assert stream.finish_reason == "length"
    assert stream.usage_tokens == 16


def test_deployment_by_console_streams(system: System, browser: Browser) -> None:
    """Form, plan preview, confirmation, Ready on the page, a streamed chat; deleted there too; no complaint."""
    endpoints = system.endpoints()
    seen = watched(browser, width=1440)
    page = seen.page
    try:
        _log_in(page, endpoints)
        page.get_by_role("link", name="New deployment").click()
        _fill(page)
        page.get_by_role("button", name="Preview plan and cost").click()
        in_eu = system.cluster_in(system.region_in("eu"))
        expect(page.locator("#preview")).to_contain_text("/ h at its least")
        expect(page.locator("#preview")).to_contain_text(in_eu)
        with system.api() as client:
            assert client.get(f"/deployments/{NAME}").status_code == 404, "a preview writes nothing"

        page.get_by_role("button", name="Deploy", exact=True).click()
        page.wait_for_url(f"{endpoints['console']}/deployments/{NAME}")
        replicas = page.locator("dl.stats .stat", has=page.get_by_text("Replicas", exact=True))
        expect(replicas).to_contain_text("1 of 1 ready", timeout=READY_WITHIN_MS)
        ready = page.locator("ul.conditions li", has=page.get_by_text("Ready", exact=True))
        expect(ready).to_contain_text("1 replica is ready")
        system.ready(NAME)
        assert {(r["engine"], r["cluster"]) for r in system.replicas(NAME)} == {(ENGINE, in_eu)}
        _assert_chats(system)

        page.get_by_role("link", name="Delete").click()
        page.get_by_label(f"Type {NAME} to confirm").fill(NAME)
        page.get_by_role("button", name="Drain and delete").click()
        page.goto(f"{endpoints['console']}/deployments")
        expect(page.get_by_role("link", name=NAME)).to_have_count(0, timeout=GONE_WITHIN_MS)
        with system.api() as client:
            eventually(lambda: client.get(f"/deployments/{NAME}").status_code == 404, what="gone")
        assert seen.complaints == []
    finally:
        system.delete(NAME)


def test_what_is_refused_before_any_page_is_said_on_the_page(system: System, browser: Browser) -> None:
    """A trace that is larger than any body may be; then one that may be, whose answer takes the notice's place."""
    endpoints = system.endpoints()
    page = watched(browser, width=1440).page
    _log_in(page, endpoints)
    page.goto(f"{endpoints['console']}/plans/replay")
    head = b"timestamp,input_tokens,output_tokens\n"
    for body, said in (
        (head + b"1,1,1\n" * 250_000, "the body is larger than"),
        (head, "there is no row in it"),
    ):
        page.get_by_label("Trace").set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": body})
        page.get_by_role("button", name="What would it have cost?").click()
        expect(page.locator("#answer").get_by_role("alert")).to_contain_text(said)
