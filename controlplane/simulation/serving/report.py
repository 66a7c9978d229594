"""The report: one HTML page that needs nothing else, policies side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape

from controlplane.simulation.serving.outcome import Moment, Outcome
from controlplane.simulation.serving.pictures import PLOT_STYLE, bars, replicas_against_demand
from controlplane.simulation.serving.playing import RUNS
from controlplane.simulation.serving.results import COLUMNS, REGION_COLUMNS, RENTED_COLUMNS
from controlplane.simulation.serving.world import ServingWorld, Survey
from workloadplane.words import counted

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2330;--muted:#5b6678;--paper:#fff;--panel:#f6f7f9;--line:#dfe3ea;
--a:#2456c9;--b:#c2410c;--area:#c7d6f7}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--muted:#9aa5b8;--paper:#12161d;--panel:#1a202a;--line:#2d3644;
--a:#7fa7ff;--b:#fb923c;--area:#2a3f6e}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p,li{color:var(--muted)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--muted)}
.three{margin-top:1rem;display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem}
figure{margin:0 0 1rem;padding:.75rem 1rem;background:var(--panel);border:1px solid var(--line);border-radius:8px}
figcaption{font-weight:600;margin-bottom:.4rem}figcaption span{font-weight:400;color:var(--muted)}
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--muted)}svg .name{fill:var(--ink)}
.grid{stroke:var(--line)}.demand{fill:var(--area);stroke:none}.ready{fill:none;stroke:var(--a);stroke-width:1.8}
.wanted{fill:none;stroke:var(--b);stroke-width:1.2;stroke-dasharray:4 3}.bars rect{fill:var(--a)}
.legend{display:flex;gap:1.2rem;list-style:none;padding:0;margin:.2rem 0 0;font-size:.85rem}
.legend i{display:inline-block;width:1rem;height:.6rem;margin-right:.35rem;vertical-align:middle}
.legend .l-demand{background:var(--area)}.legend .l-ready,.legend .l-wanted{background:var(--a);height:2px}
.legend .l-wanted{background:var(--b)}
"""
_LEGEND = (
    '<ul class="legend"><li><i class="l-demand"></i>replicas that the work keeps busy</li>'
    '<li><i class="l-ready"></i>ready</li><li><i class="l-wanted"></i>wanted</li></ul>'
)
_REGIONS_SAY = (
    "Requests count for the region that is the nearest to their clients, wherever they were served; replicas for the "
    "region in which they ran. Demand is that of the region's clients. During losses: what came while any region was "
    "gone."
)


def html_report(world: ServingWorld, seen: Survey, outcomes: Sequence[Outcome], digest: str) -> str:
    """The whole page."""
    modes = sorted({outcome.mode for outcome in outcomes})
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(world.name)}</title><style>{_STYLE}{PLOT_STYLE}</style></head><body>",
        f"<h1>{escape(world.name)}</h1>",
        f"<p>{counted(seen.requests, 'request', ',')} in {seen.end_s / 3600:,.2f} h, "
        f"{counted(seen.input_tokens, 'token', ',')} read and {seen.output_tokens:,} written; seed {world.seed}. "
        f"A request is within its SLO if it waits no longer than {world.wait_slo_s:g} s for its seat.</p>",
        _table(outcomes),
        _side_by_side(outcomes),
        "<h2>Replicas against demand</h2>",
        *_timelines(seen, outcomes),
        *_by_region(seen, outcomes),
        *_placed(outcomes),
        *_seated(outcomes),
        *_rented(outcomes),
        *_jobs(outcomes),
        "<h2>What was played</h2>",
        *(f"<p><b>{mode}</b>: {escape(RUNS[mode])}</p>" for mode in modes),
    ]
    if seen.notes:
        parts += [
            "<h2>What was mended or is odd</h2><ul>",
            *(f"<li>{escape(each)}</li>" for each in seen.notes),
            "</ul>",
        ]
    broken = [f"{outcome.policy}: {rule}" for outcome in outcomes for rule in outcome.broken]
    if broken:
        parts += [
            "<h2>Rules that did not hold</h2><ul>",
            *(f"<li>{escape(each)}</li>" for each in broken),
            "</ul>",
        ]
    parts.append(
        f"<p>World {escape(digest[:16])}. The same world, code and seed give the same page.</p></body></html>"
    )
    return "\n".join(parts) + "\n"


def printed(name: str, value: object) -> str:
    """A figure of an outcome for people."""
    if value is None:
        return "–"
    if (name.startswith("within_slo") or name == "spilled") and isinstance(value, float):
        return f"{100 * value:.3f} %"
    if isinstance(value, float):
        return f"{value:,.3f}" if name.endswith(("_p50", "_p90", "_p99")) else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(outcomes: Sequence[Outcome]) -> str:
    titles = [title for _, title in COLUMNS]
    rows = [[printed(name, getattr(outcome, name)) for name, _ in COLUMNS] for outcome in outcomes]
    return _grid(titles, rows)


def _grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _placed(outcomes: Sequence[Outcome]) -> list[str]:
    """The control plane's plans: when, why, which bounds, what moved, and what was given up."""
    parts: list[str] = []
    for outcome in outcomes:
        if outcome.placement is None:
            continue
        placed = outcome.placement
        more = placed.plans - len(placed.told)
        untold = f"; the last {counted(more, 'plan', ',')} not told" if more else ""
        rows = [
            [
                f"{plan.at_s:,.0f}",
                plan.why,
                "; ".join(f"{pool} {bounds}" for pool, bounds in plan.bounds.items()),
                "; ".join(plan.moves) or "–",
                "; ".join(plan.given_up) or "–",
            ]
            for plan in placed.told
        ]
        parts += [
            f"<p>{escape(outcome.policy)}: {counted(placed.plans, 'plan', ',')}, "
            f"{counted(placed.moved, 'replica', ',')} moved, "
            f"{counted(placed.searches, 'search', ',')}, of which {placed.better:,} found a plan that was "
            f"worth its moves{untold}.</p>",
            _grid(["at s", "for", "bounds of pools", "against the plan before", "given up"], rows),
            *(f"<p>Learned of {escape(pool)}: {escape(said)}.</p>" for pool, said in placed.believed.items()),
        ]
    return ["<h2>Placement</h2>", *parts] if parts else []


def _seated(outcomes: Sequence[Outcome]) -> list[str]:
    """Who served where only one region may."""
    seated = [(outcome, outcome.seats) for outcome in outcomes if outcome.seats is not None]
    if not seated:
        return []
    parts = ["<h2>Who served</h2>"]
    for outcome, seats in seated:
        rows = [
            [f"{told.at_s:,.1f}", told.region or "nobody", told.cause.replace("_", " ") or "–"]
            for told in seats.told
        ]
        parts += [
            f"<p>{escape(outcome.policy)}: {counted(seats.takeovers, 'time', ',')} another region, or the same one "
            f"again, took the seat; for {seats.nobody_s:,.1f} s nobody served.</p>",
            _grid(["from s on", "served", "the one before was"], rows),
        ]
    return parts


def _rented(outcomes: Sequence[Outcome]) -> list[str]:
    """What was rented, by kind of procurement; and why."""
    rows = [
        [
            outcome.policy,
            kind.replace("_", " "),
            *(printed(name, getattr(one, name)) for name, _ in RENTED_COLUMNS),
        ]
        for outcome in outcomes
        for kind, one in outcome.rented.items()
        if one.usd or one.launches or one.failed_launches
    ]
    if not rows:
        return []
    titles = ["policy", "rented", *(title for _, title in RENTED_COLUMNS)]
    parts = ["<h2>What was rented</h2>", _grid(titles, rows)]
    for outcome in outcomes:
        if outcome.reasons:
            parts += [
                f"<p>Why, the last of it with {escape(outcome.policy)}:</p><ul>",
                *(f"<li>{escape(each)}</li>" for each in outcome.reasons),
                "</ul>",
            ]
    return parts


def _jobs(outcomes: Sequence[Outcome]) -> list[str]:
    """Asynchronous work: done, late, and what it cost."""
    rows = [
        [
            outcome.policy,
            job.name,
            f"{100 * job.done_share:.1f} %",
            "–" if job.done_s is None else f"{job.done_s / 3600:,.2f}",
            "–" if job.late is None else "yes" if job.late else "no",
            *(f"{hours:,.1f}" for hours in (job.spot_hours, job.on_demand_hours)),
            f"{job.lost:,}",
            f"{job.usd:,.2f}",
        ]
        for outcome in outcomes
        for job in outcome.jobs
    ]
    if not rows:
        return []
    titles = ["policy", "job", "done", "after h", "late", "spot h", "on-demand h", "lost", "cost, USD"]
    told = (
        "<p>By uniform progress to its deadline, beside what serves; its cost is not in that of serving.</p>"
    )
    return ["<h2>Asynchronous work</h2>", told, _grid(titles, rows)]


def _by_region(seen: Survey, outcomes: Sequence[Outcome]) -> list[str]:
    """What each region's clients met and what ran there, with a picture of each."""
    rows = [
        [each.policy, region, *(printed(name, getattr(one, name)) for name, _ in REGION_COLUMNS)]
        for each in outcomes
        if each.regions
        for region, one in (("all", each), *((one.region, one) for one in each.regions))
    ]
    if not rows:
        return []
    titles = ["policy", "clients of", *(title for _, title in REGION_COLUMNS)]
    ceiling = _ceiling(moments for each in outcomes for moments in _moments_by_region(each))
    parts = ["<h2>By region</h2>", f"<p>{escape(_REGIONS_SAY)}</p>", _grid(titles, rows)]
    for each in outcomes:
        for one in each.regions:
            title = f"{each.policy} in {one.region}"
            drawn = replicas_against_demand(one.moments, end_s=seen.end_s, ceiling=ceiling, title=title)
            said = f"{100 * one.spilled:.1f} % served elsewhere, {one.replica_hours:,.1f} replica-hours"
            caption = f"<figcaption>{escape(title)} <span>{said}</span></figcaption>"
            parts.append(f"<figure>{caption}{drawn}{_LEGEND}</figure>")
    return parts


def _moments_by_region(outcome: Outcome) -> Iterator[Sequence[Moment]]:
    return (each.moments for each in outcome.regions)


def _ceiling(drawn: Iterable[Sequence[Moment]]) -> float:
    """So that all pictures have one scale."""
    levels = (max(each.demand, each.wanted, each.ready) for moments in drawn for each in moments)
    return max(levels, default=1.0)


def _side_by_side(outcomes: Sequence[Outcome]) -> str:
    measures: tuple[tuple[str, str, Callable[[Outcome], float]], ...] = (
        ("Cost", "usd", lambda each: each.usd),
        ("Outside the SLO", "outside", lambda each: 1 - each.within_slo),
        ("Launches", "launches", lambda each: float(each.launches)),
    )
    figures = []
    for title, name, value in measures:
        rows = [(each.policy, value(each), _bar_label(name, value(each))) for each in outcomes]
        figures.append(f"<figure><figcaption>{title}</figcaption>{bars(rows, title=title)}</figure>")
    return f'<div class="three">{"".join(figures)}</div>'


def _bar_label(name: str, value: float) -> str:
    if name == "outside":
        return f"{100 * value:.3f} %"
    return f"{value:,.1f} USD" if name == "usd" else f"{value:,.0f}"


def _timelines(seen: Survey, outcomes: Sequence[Outcome]) -> list[str]:
    ceiling = _ceiling(each.moments for each in outcomes)
    found = []
    for each in outcomes:
        title = f"{each.policy}: replicas against demand"
        drawn = replicas_against_demand(each.moments, end_s=seen.end_s, ceiling=ceiling, title=title)
        found.append(
            f"<figure><figcaption>{escape(each.policy)} <span>{printed('within_slo', each.within_slo)} within SLO, "
            f"{each.replica_hours:,.1f} replica-hours, {counted(each.launches, 'launch', ',')}</span></figcaption>"
            f"{drawn}{_LEGEND}</figure>"
        )
    return found
