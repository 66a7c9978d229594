"""The console in a real Chromium: no complaint, no overflow, nothing that shuts people out, and it lives."""

import os
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from apps.agents.models import LogLines, LogWatch, Replica
from apps.deployments.models import Deployment
from tests.console.world import PASSWORD, World, world_make
from tests.support.browser import Watched, chromium, watched

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

PAGES = (
    "/",
    "/deployments",
    "/deployments/chat",
    "/deployments/stuck",
    "/deployments/chat/edit",
    "/deployments/chat/delete",
    "/new-deployment",
    "/plans",
    "/plans/latest",
    "/plans/1/deployments/chat",
    "/plans/1/diff",
    "/plans/what-if",
    "/plans/replay",
    "/events",
    "/clusters",
    "/clusters/us-east",
    "/drains",
    "/drills",
    "/health",
    "/incidents",
    "/drains/new?kind=region&name=eu-west-1",
    "/models",
    "/engines",
    "/keys",
    "/project-limits",
    "/audit",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright's own event loop runs in this thread; Django must not take the tests for asynchronous code."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with chromium() as running:
        yield running
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def world(transactional_db: None) -> World:
    return world_make()


def enter(
    browser: Browser,
    live_server: LiveServer,
    *,
    width: int = 1440,
    scheme: Literal["light", "dark"] = "light",
) -> Watched:
    """Log in as a person does, and choose the project of these tests."""
    seen = watched(browser, width=width, scheme=scheme)
    page = seen.page
    page.goto(f"{live_server.url}/login")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{live_server.url}/")
    page.goto(f"{live_server.url}/?project=default")
    return seen


def serious_violations(page: Page) -> list[str]:
    """What axe finds that shuts people out."""
    # What passes need not be described.
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_page_is_sound(
    browser: Browser,
    live_server: LiveServer,
    world: World,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    """No console error, nothing wider than the window and no serious axe violation, on a desk and on a phone."""
    seen = enter(browser, live_server, width=width, scheme=scheme)
    for path in PAGES:
        seen.page.goto(live_server.url + path)
        assert serious_violations(seen.page) == [], path
        assert seen.overflow_px <= 0, path
    assert seen.complaints == []


def test_a_keys_limits_are_set_by_hand(browser: Browser, live_server: LiveServer, world: World) -> None:
    """From the list to the form and back: what was typed is what the list says."""
    seen = enter(browser, live_server)
    page = seen.page
    page.goto(f"{live_server.url}/keys")
    page.get_by_role("link", name="Limits of laptop").click()
    assert serious_violations(page) == []
    page.get_by_label("Tokens a minute").fill("20000")
    page.get_by_label("Highest priority").select_option("low")
    page.get_by_role("button", name="Set limits").click()
    expect(page.get_by_text("The limits of laptop are changed")).to_be_visible()
    expect(page.get_by_role("row", name="laptop")).to_contain_text("20,000 tokens / min")
    page.get_by_role("link", name="Change", exact=True).click()
    page.get_by_label("Requests at once").fill("64")
    page.get_by_role("button", name="Set limits").click()
    expect(page.get_by_text("64 at once")).to_be_visible()
    assert seen.complaints == []


def test_a_cluster_is_drained_by_hand(browser: Browser, live_server: LiveServer, world: World) -> None:
    """From its page over the look at what would be left to the list, and called off there."""
    seen = enter(browser, live_server, width=390)
    page = seen.page
    page.goto(f"{live_server.url}/clusters/eu-west")
    page.get_by_role("link", name="Drain this cluster").click()
    page.get_by_label("Reason").fill("new switches")
    page.get_by_label("Go on though a promise breaks").check()
    page.get_by_role("button", name="Drain it").click()
    expect(page.get_by_text("cluster eu-west is moving")).to_be_visible()
    assert serious_violations(page) == []
    assert seen.overflow_px <= 0
    page.get_by_role("button", name="Cancel cluster eu-west").click()
    expect(page.get_by_text("cluster eu-west is open again")).to_be_visible()
    assert seen.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_door_is_sound(
    browser: Browser, live_server: LiveServer, world: World, scheme: Literal["light", "dark"]
) -> None:
    """The login page too, in both themes."""
    seen = watched(browser, width=390, scheme=scheme)
    seen.page.goto(f"{live_server.url}/login")
    assert serious_violations(seen.page) == []
    assert seen.overflow_px <= 0
    assert seen.complaints == []


def test_a_page_shows_what_changes_without_being_reloaded(
    browser: Browser, live_server: LiveServer, world: World
) -> None:
    """A replica that becomes ready appears so by itself, and what the reader has opened stays open."""
    seen = enter(browser, live_server)
    seen.page.goto(f"{live_server.url}/deployments/chat")
    table = seen.page.locator("#table-ttft")
    table.locator("summary").click()
    expect(seen.page.locator(".badge.busy", has_text="starting")).to_have_count(1)
    Replica.objects.filter(state="starting").update(state="ready", phase=None)
    expect(seen.page.locator(".badge.busy", has_text="starting")).to_have_count(0)
    expect(table).to_have_attribute("open", "")
    assert seen.complaints == []


def test_logs_are_followed_on_a_phone(browser: Browser, live_server: LiveServer, world: World) -> None:
    """Asked for by a button; lines that come later appear by themselves, the newest in sight; nothing overflows."""
    seen = enter(browser, live_server, width=390)
    seen.page.goto(f"{live_server.url}/deployments/chat")
    seen.page.get_by_role("button", name="Show and follow").press("Enter")
    logs = seen.page.locator("#deployment-logs")
    expect(logs).to_contain_text("first lines come within seconds")
    watch = LogWatch.objects.earliest("pk")
    LogWatch.objects.filter(pk=watch.pk).update(answered_at=timezone.now(), kept=True)
    LogLines.objects.create(
        watch=watch, text="".join(f"line {number} {'x' * 200}\n" for number in range(100))
    )
    expect(logs.locator("pre.log")).to_contain_text("line 99")
    assert logs.locator("pre.log").evaluate(
        "e => Math.abs(e.scrollTop) < 2 && e.scrollHeight > e.clientHeight"
    )
    assert serious_violations(seen.page) == []
    assert seen.overflow_px <= 0
    assert seen.complaints == []


def test_a_deployment_is_made_with_the_keyboard_alone(
    browser: Browser, live_server: LiveServer, world: World
) -> None:
    """From the overview to a new deployment without a mouse: every control can be reached and used."""
    seen = enter(browser, live_server)
    page = seen.page
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New deployment")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("Name").focus()
    page.keyboard.type("support")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Deploy")).to_be_visible()
    page.get_by_role("button", name="Deploy").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/deployments/support")
    assert Deployment.objects.get(name="support").created_by == world.admin
    assert seen.complaints == []


def test_a_plan_is_questioned_with_the_keyboard_alone(
    browser: Browser, live_server: LiveServer, world: World
) -> None:
    """Reasons open below the table; a question is answered on the page, and its answer is as sound as the page."""
    seen = enter(browser, live_server, width=1280)
    page = seen.page
    page.goto(f"{live_server.url}/plans/latest")
    page.get_by_role("link", name="stuck: reasons, pool by pool").press("Enter")
    expect(page.locator("#reasons")).to_contain_text("Not placed as wanted")
    page.get_by_role("link", name="What if").press("Enter")
    page.get_by_label("This is lost").focus()
    page.get_by_label("This is lost").select_option("region:us-east4")
    page.get_by_role("button", name="What would be planned?").press("Enter")
    answer = page.locator("#answer")
    expect(answer).to_contain_text("What would be planned")
    expect(answer).to_contain_text("from us-east/h100-")
    page.get_by_label("This is lost").select_option("")
    page.get_by_role("button", name="What would be planned?").press("Enter")
    expect(answer).to_contain_text("ask for 1 to 20 at once")
    assert serious_violations(page) == []
    assert seen.complaints == []


def test_the_menu_works_on_a_phone(browser: Browser, live_server: LiveServer, world: World) -> None:
    """The navigation is one tap away and leads where it says."""
    seen = enter(browser, live_server, width=390)
    seen.page.get_by_text("Menu", exact=True).click()
    seen.page.get_by_role("navigation", name="Menu").get_by_role("link", name="API keys").click()
    expect(seen.page.get_by_role("heading", name="API keys", level=1)).to_be_visible()
    assert seen.complaints == []


def test_a_page_that_gets_no_answers_says_so(browser: Browser, live_server: LiveServer, world: World) -> None:
    """Figures never look alive when the control plane has stopped answering; they recover by themselves."""
    seen = enter(browser, live_server)
    page = seen.page
    warning = page.get_by_text("The control plane does not answer.")
    expect(warning).to_be_hidden()
    page.route("**/overview/live", lambda route: route.abort())
    expect(warning).to_be_visible()
    page.unroute("**/overview/live")
    expect(warning).to_be_hidden()
    expect(page.locator("#world-land path")).to_have_count(2)
