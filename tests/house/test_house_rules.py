"""Rules of this house that a linter cannot know. Each failure names the cure."""

import ast
import inspect
from collections.abc import Iterator

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from apps.api.actors import RIGHTS
from apps.api.documents import OpenApiJsonView, OpenApiYamlView
from apps.api.views import MeridianView, Tenancy
from tests.house.source import dotted, sources

PURE_ROOMS = (
    "controlplane/placement",
    "controlplane/costing",
    "controlplane/sizing",
    "controlplane/failover",
    "controlplane/procurement",
    "controlplane/simulation",
    "workloadplane/routing",
    "workloadplane/gateway/queueing",
    "workloadplane/health",
    "workloadplane/autoscaling",
)
IMPURE_MODULES = {
    "time",
    "random",
    "secrets",
    "os",
    "socket",
    "subprocess",
    "threading",
    "asyncio",
    "pathlib",
    "tempfile",
}
IMPURE_CALLS = {
    "datetime.now",
    "datetime.utcnow",
    "date.today",
    "datetime.datetime.now",
    "uuid.uuid4",
    "uuid4",
    "open",
}
HTTP_METHODS = ("get", "post", "put", "patch", "delete")
PUBLIC_VIEWS = (OpenApiYamlView, OpenApiJsonView)


def test_the_database_is_reached_through_services_and_selectors_alone() -> None:
    """A view, task or form that queries by itself forgets the tenant sooner or later."""
    allowed = {"services", "selectors", "selectors.py", "models.py", "managers.py"}
    offences = [
        source.at(node)
        for source in sources("apps", "controlplane")
        if not allowed.intersection(source.path.parts)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("objects", "_default_manager", "_base_manager")
    ]
    assert not offences, f"move these queries into the app's services/ or selectors.py: {offences}"


def test_apps_reach_each_other_through_services_and_selectors_alone() -> None:
    """An app's views, serializers and tasks are its own; others call its services or selectors."""
    doors = {"models", "services", "selectors"}
    shared = {  # mappings: rows, plans <-> documents, wire
        "apps.deployments.documents",
        "apps.placements.documents",
        "apps.telemetry.wire_values",
    }
    offences = [
        f"{source.at(node)} imports {module}"
        for source in sources("apps")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("apps.")
        for module in _imported(node)
        if module.split(".")[1] not in (source.path.parts[1], "api")
        and not doors.intersection(module.split(".")[2:3])
        and module not in shared
    ]
    assert not offences, f"call that app's services or selectors instead: {offences}"


def _imported(node: ast.ImportFrom) -> Iterator[str]:
    module = node.module or ""
    if module.count(".") >= 2:
        yield module
    else:
        yield from (f"{module}.{alias.name}" for alias in node.names)


def test_pure_rooms_read_no_clock_no_chance_and_no_environment() -> None:
    """One function serves production, the simulator and property tests only if nothing comes in from the side."""
    offences = []
    for source in sources(*PURE_ROOMS):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                names = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                if node.module == "random" and [alias.name for alias in node.names] == ["Random"]:
                    continue  # the type of a generator that the caller seeds
                names = [(node.module or "").partition(".")[0]]
            elif isinstance(node, ast.Call):
                if dotted(node.func) in IMPURE_CALLS:
                    offences.append(source.at(node))
                continue
            else:
                continue
            if IMPURE_MODULES.intersection(names):
                offences.append(source.at(node))
    assert not offences, f"pass now, rng or the value in as an argument: {offences}"


def test_no_end_is_asked_for_in_vain() -> None:
    """``asyncio.wait_for`` of Python 3.11 swallows a cancellation that comes with the result: a lost SIGTERM."""
    offences = [
        source.at(node)
        for source in sources("apps", "controlplane", "workloadplane", "meridian", "infra")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and dotted(node.func) in ("asyncio.wait_for", "wait_for")
    ]
    assert not offences, f"write `async with asyncio.timeout(...)` instead: {offences}"


def api_views() -> Iterator[tuple[str, type]]:
    """Every view that is routed below /api/v1/."""

    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, type]]:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            elif route.startswith("api/v1/"):
                view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
                assert view is not None, f"{route} is a plain function: make it a MeridianView"
                yield route, view

    yield from walk(get_resolver().url_patterns, "")


@pytest.mark.parametrize(("route", "view"), [pytest.param(*found, id=found[0]) for found in api_views()])
def test_every_view_says_which_right_it_needs_and_whose_objects_it_shows(route: str, view: type) -> None:
    """Whoever adds an endpoint decides both, in the class, where a reviewer sees it."""
    if view in PUBLIC_VIEWS:
        return
    assert issubclass(view, MeridianView), f"{route}: derive {view.__name__} from MeridianView"
    assert isinstance(getattr(view, "tenancy", None), Tenancy), f"{route}: give {view.__name__} a tenancy"
    methods = {name.upper() for name in HTTP_METHODS if hasattr(view, name)}
    rights = getattr(view, "rights", {})
    assert set(rights) == methods, f"{route}: {view.__name__}.rights must name exactly {sorted(methods)}"
    unknown = set(rights.values()) - {*RIGHTS, "none"}
    assert not unknown, f"{route}: rights are {RIGHTS}, not {unknown}"


@pytest.mark.parametrize(("route", "view"), [pytest.param(*found, id=found[0]) for found in api_views()])
def test_views_are_thin(route: str, view: type) -> None:
    """A rule in a view is a rule that the console and the tasks do not keep."""
    for name in HTTP_METHODS:
        handler = view.__dict__.get(name)
        if handler is not None:
            lines = len(inspect.getsource(inspect.unwrap(handler)).splitlines())
            assert lines <= 40, f"{view.__name__}.{name} has {lines} lines: move its rules into a service"


def test_functions_stay_readable() -> None:
    """A function fits a screen: sixty lines, and a docstring."""
    long_functions = [
        f"{source.at(node)} {node.name}"
        for source in sources("apps", "controlplane", "workloadplane", "meridian", "infra")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno > 75
    ]
    assert not long_functions, f"split these functions: {long_functions}"
