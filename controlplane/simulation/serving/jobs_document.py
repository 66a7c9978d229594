"""What a world's document says of asynchronous work."""

from collections.abc import Sequence

from controlplane.simulation.serving.fields import Fields, WorldError
from controlplane.simulation.serving.geography import Region
from controlplane.simulation.serving.jobs import Job
from workloadplane.words import counted


def jobs_of(
    fields: Fields, regions: Sequence[Region], *, end_s: float | None, restart_s: float
) -> tuple[Job, ...]:
    """The field ``jobs``, which may be left away. ``restart_s``: where none is said. Raises WorldError."""
    if "jobs" not in fields:
        return ()
    runs_in = [region.name for region in regions if region.pools]
    found = tuple(
        _job(each, runs_in, number, restart_s) for number, each in enumerate(fields.children("jobs"), 1)
    )
    for number, job in enumerate(found):
        if end_s is not None and job.at_s + job.deadline_s > end_s:
            raise WorldError(
                f"jobs[{number}].deadline_s {job.deadline_s:g}: {job.name} is due at {job.at_s + job.deadline_s:g} s, "
                f"after the world's end at {end_s:g} s; give more hours"
            )
    if len({job.name for job in found}) < len(found):
        raise WorldError("jobs: two have the same name: call each by its own")
    return found


def _job(fields: Fields, runs_in: Sequence[str], number: int, restart_s: float) -> Job:
    job = Job(
        name=fields.text("name", f"job {number}"),
        replica_hours=fields.number("replica_hours", above=True, most=1e6),
        at_s=fields.number("at_s", 0.0),
        deadline_s=fields.number("deadline_s", above=True),
        restart_s=fields.number("restart_s", restart_s, most=86_400.0),
        replicas=fields.whole("replicas", 1, least=1, most=1000),
        region=_region(fields, runs_in) if "region" in fields else "",
    )
    fields.done()
    if not job.work.feasible:
        least_s = job.work.work_s + job.work.restart_s + job.work.look_s
        raise fields.wrong(
            "deadline_s",
            job.deadline_s,
            f"each of {counted(job.replicas, 'replica')} needs {least_s:,.0f} s: give more of either",
        )
    return job


def _region(fields: Fields, runs_in: Sequence[str]) -> str:
    if not runs_in:
        raise fields.wrong("region", fields.text("region"), "leave it away: this world has no regions")
    return fields.choice("region", runs_in)
