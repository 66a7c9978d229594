"""Plans, their reasons and their changes as tables for people."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rich.markup import escape
from rich.table import Table

from meridian.cli.output import console
from workloadplane.words import counted

Document = Mapping[str, Any]

_VERDICTS = {"survives": "green", "degraded": "yellow", "lost": "red"}


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _say(text: str) -> None:
    console.print(text, highlight=False)


def print_plan(plan: Document) -> None:
    """A line for each deployment, then money, then what is not kept."""
    table = _table("deployment", "runs on", "usd per hour", "traffic")
    for entry in plan["deployments"]:
        table.add_row(
            escape(entry["name"]),
            _places(entry) or ("[red]not placed[/]" if entry["refusal"] else "–"),
            entry["usd_per_h"],
            ", ".join(map(_flow, entry["traffic"])) or "–",
        )
    console.print(table)
    bound = plan["bound"]
    gap = f", at most {bound['gap_percent']:.2f} % above the best that keeps as much" if bound else ""
    _say(
        f"plan {plan['plan_generation']}: {plan['usd_per_h']} USD per hour for {_whose(plan)},"
        f" {plan['usd_per_h_marginal']} beyond what is reserved{gap}"
    )
    for entry in plan["deployments"]:
        print_wishes(entry["name"], entry["refusal"], entry["relaxed"])
    print_broken(plan["certificate"])


def _whose(document: Document) -> str:
    return {"organization": "all projects", "project": "this project"}[document["sums_of"]]


def print_wishes(name: str, refusal: Document | None, relaxed: Iterable[Document]) -> None:
    """What a deployment asked for and does not get, with the remedy."""
    if refusal:
        _say(f"[red]not placed[/]  {escape(_refused(name, refusal))}")
    for wish in relaxed:
        _say(f"[yellow]relaxed[/]  {escape(_refused(name, wish))}")


def _refused(name: str, refusal: Document) -> str:
    rule = str(refusal["rule"]).replace("_", " ")
    return f"{name}: {rule}, {refusal['value']}; {refusal['remedy']}"


def print_broken(certificate: Document) -> None:
    """Promises and rules that a plan does not keep, one a line."""
    for line in (*certificate["broken_rules"], *certificate["broken_promises"]):
        _say(f"[red]not kept[/]  {escape(line)}")
    left_out = certificate["broken_promises_count"] - len(certificate["broken_promises"])
    if left_out:
        _say(f"[red]not kept[/]  {left_out} more")


def _places(entry: Document) -> str:
    return ", ".join(_place(pool) for pool in entry["pools"] if "min_replicas" in pool)


def _place(pool: Document) -> str:
    standby = " standby" if pool["standby"] else ""
    replicas = max(pool["min_replicas"], pool["planned_replicas"])
    return f"{replicas} {_words(pool['procurement'])}{standby} in {pool['cluster']}"


def _flow(flow: Document) -> str:
    return f"{100 * flow['share']:.3g} % of {flow['origin_region']} to {flow['region']}"


def _words(identifier: str) -> str:
    return identifier.replace("_", " ")


def print_reasons(entry: Document) -> None:
    """Every pool with its part: first those that were taken."""
    _say(f"[bold]{escape(entry['name'])}[/]  {entry['usd_per_h']} USD per hour")
    _say(f"planned for {_planned_for(entry)}")
    print_wishes(entry["name"], entry["refusal"], entry["relaxed"])
    change = entry.get("smallest_change")
    if change:
        _say(f"[bold]would do[/]  {escape(change['said'])}")
    table = _table("pool", "replicas", "usd per hour", "because")
    for pool in sorted(entry["pools"], key=lambda pool: "min_replicas" not in pool):
        name = f"{pool['cluster']}/{pool['pool']}"
        if "min_replicas" in pool:
            table.add_row(
                escape(name),
                replicas_said(pool),
                pool["usd_per_h"],
                escape("; ".join(pool["reasons"])),
            )
        else:
            refusal = pool["refusal"]
            why = f"{_words(refusal['rule'])}: {refusal['value']}; {refusal['remedy']}"
            table.add_row(escape(name), "–", "–", escape(why))
    console.print(table)


def _planned_for(entry: Document) -> str:
    """The demand (p95) by its origins, and what the owner wants."""
    demand = entry["demand"]
    requests, tokens = (sum(row[f"{unit}_per_s"] for row in demand) for unit in ("requests", "tokens"))
    origins = ", ".join(f"{_rate(row['requests_per_s'])} in {row['origin_region']}" for row in demand)
    known = f"{_rate(requests)} requests/s, {_rate(tokens)} output tokens/s ({origins})"
    bounds = f"{entry['min_replicas']} to {counted(entry['max_replicas'], 'replica')}"
    kind = entry["survivability"]
    loss = "" if kind == "none" else f"; the loss of any {kind}"
    return f"{known if demand else 'no known demand'}; {bounds}{loss}"


def _rate(per_s: float) -> str:
    return f"{per_s:.3g}" if per_s < 100 else f"{per_s:,.0f}"


def replicas_said(pool: Document) -> str:
    """Bounds of what one pool gives, and for how many room is kept where that is more than the minimum."""
    bounds = f"{pool['min_replicas']} to {pool['max_replicas']}"
    planned = pool["planned_replicas"]
    room = f", room for {planned}" if planned > pool["min_replicas"] else ""
    return bounds + room + (" standby" if pool["standby"] else "")


def print_losses(losses: Iterable[Document]) -> None:
    """What each loss leaves."""
    table = _table("if lost", "verdict", "served", "margin", "replicas left", "replaced in", "promised")
    for loss in losses:
        table.add_row(
            escape(f"{_words(loss['domain_kind'])} {loss['domain']}"),
            verdict(loss["verdict"]),
            _served(loss["share_left"]),
            f"{100 * loss['margin_share']:+.3g} %" if loss["margin_share"] < 10 else "over ten times",
            _replicas_left(loss),
            "–" if loss["recovery_s"] is None else f"{loss['recovery_s']:.0f} s",
            "yes" if loss["promised"] else "no",
        )
    console.print(table)


def _served(share_left: float) -> str:
    """Of the demand planned for. Rounded down: nothing looks whole that is not."""
    return f"{math.floor(1000 * min(1.0, share_left)) / 10:g} %"


def _replicas_left(row: Document) -> str:
    return f"{row['replicas_left']:.3g} (min {row['replicas_needed']})"


def verdict(word: str) -> str:
    """A verdict as a word in its colour."""
    return f"[{_VERDICTS.get(word, 'default')}]{word}[/]"


def print_diff(diff: Document) -> None:
    """What changes deployment by deployment, then the sum of it."""
    table = _table("deployment", "what changes", "rent, usd per hour")
    for entry in diff["deployments"]:
        rents = (entry["cost_before"]["rent"], entry["cost_after"]["rent"])
        said = entry["said"].partition("; rent ")[0]
        table.add_row(
            escape(entry["name"]),
            escape("money alone" if said.startswith("rent ") else said.replace("; ", "\n")),
            rents[0] if rents[0] == rents[1] else f"{rents[0]} → {rents[1]}",
        )
    if diff["deployments"]:
        console.print(table)
    else:
        _say("nothing changes for this project's deployments")
    left_out = diff["deployments_changed"] - len(diff["deployments"])
    if left_out:
        _say(f"and {counted(left_out, 'more deployment')}")
    _say(
        f"{counted(diff['replicas_moved'], 'replica')} moved, {diff['replicas_started']} started,"
        f" {diff['replicas_stopped']} stopped; {counted(diff['promises_lost'], 'promise')} broken,"
        f" {diff['promises_gained']} kept again; unchanged deployments: {diff['deployments_unchanged']}"
    )
    before, after = diff["before"]["usd_per_h"], diff["after"]["usd_per_h"]
    change = _signed(str(Decimal(after) - Decimal(before)))
    extra = [Decimal(diff[side]["usd_per_h_marginal"]) for side in ("before", "after")]
    beyond = f", {extra[0]} → {extra[1]} beyond what is reserved" if extra[0] != extra[1] else ""
    _say(f"{before} → {after} USD per hour for {_whose(diff)} ({change}){beyond}")
    parts = [
        f"{part} {_signed(str(difference))}"
        for part, usd_per_h in diff["cost_after"].items()
        if part not in _NO_MONEY and (difference := Decimal(usd_per_h) - Decimal(diff["cost_before"][part]))
    ]
    if parts:
        _say(f"this project, by what counts: {', '.join(parts)}")


def print_solved(answer: Document) -> None:
    """How a question was answered, and how good the answer is."""
    gap = answer["gap_percent"]
    how = {"search": "by search", "greedy": "one deployment after the other"}[answer["solved_by"]]
    proof = (
        ""
        if gap is None
        else "; nothing that keeps as much is cheaper"
        if gap == 0
        else f"; at most {gap:g} % above the best that keeps as much"
    )
    _say(f"solved in {answer['solve_s']:.1f} s, {how}{proof}")


#: The price of wishes that are not kept is policy, no money; the total holds it.
_NO_MONEY = ("relaxed", "total")


def _signed(usd: str) -> str:
    return usd if usd.startswith("-") else f"+{usd}"


def print_survival(answer: Document) -> None:
    """What is left of each deployment that a loss touches, and the sum of it."""
    table = _table("deployment", "verdict", "served", "replicas left", "back in", "promised")
    for entry in answer["deployments"]:
        table.add_row(
            escape(entry["name"]),
            verdict(entry["verdict"]),
            _served(entry["share_left"]),
            _replicas_left(entry),
            "–" if entry["recovery_s"] is None else f"{entry['recovery_s']:.0f} s",
            "yes" if entry["promised"] else "no",
        )
    if answer["deployments"]:
        console.print(table)
    left_out = answer["deployments_touched"] - len(answer["deployments"])
    if left_out:
        _say(f"and {counted(left_out, 'more deployment')}")
    short = sum(entry["verdict"] != "survives" for entry in answer["deployments"])
    word = "[green]survives[/]" if answer["survives"] else "[red]does not survive[/]"
    _say(
        f"plan {answer['plan_generation']} {word} losing {escape(', '.join(answer['lost']))}:"
        f" {_served(answer['served_share'])} of the demand is served"
        + (
            f", {short} deployment{'s' if short > 1 else ''} fall{'' if short > 1 else 's'} short"
            if short
            else ""
        )
    )
