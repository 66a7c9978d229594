"""Starting a drill: blast radius and promise are stated and stored before anything is touched."""

from dataclasses import asdict
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from apps.accounts.selectors import organization_wanted
from apps.api.actors import Actor
from apps.api.problems import Problem, field_problem
from apps.api.services import audit_record, one_transaction
from apps.drills.models import Drill, DrillDriver
from apps.drills.services.drill_preview import drill_preview, risk_check
from controlplane.failover import DrillLimits

#: What is measured before the fault and after it by the control plane itself, from usage; for so long a client may too.
AROUND_S = 60.0


@one_transaction
def drill_start(
    *,
    actor: Actor,
    kind: str,
    target: str,
    deployment: str,
    method: str,
    driver: str,
    now: datetime,
    fault_s: float,
    limits: DrillLimits,
    accept_risk: bool = False,
) -> Drill:
    """Make it, in the phase ``before``. One at a time for each organization.

    Raises Problem ``invalid_document``, ``not_found``, ``refused``, ``conflict``.
    """
    _driver_check(driver, method, fault_s, limits)
    preview = drill_preview(actor=actor, kind=kind, target=target, deployment=deployment, method=method)
    risk_check(preview, accept_risk=accept_risk)
    drill = Drill(
        organization_id=organization_wanted(actor),
        project_id=preview.deployment.project_id,
        deployment_id=preview.deployment.pk,
        deployment=preview.deployment.name,
        kind=kind,
        target=target,
        method=method,
        driver=driver,
        state="before",
        accept_risk=accept_risk,
        created_by=str(actor)[:200],
        plan_generation=preview.stored.plan_generation,
        certificate_sha256=preview.stored.certificate_sha256,
        blast=preview.blast(),
        promise=asdict(preview.promise),
        lost_cluster_ids=list(preview.cluster_ids),
        lost_regions=list(preview.regions),
        idle_micro_usd_per_h=preview.idle_micro_usd_per_h,
        limits=asdict(limits),
        fault_s=fault_s,
        started_at=now,
        deadline_at=now + timedelta(seconds=limits.duration_s_max),
    )
    try:
        with transaction.atomic():
            drill.save(force_insert=True)
    except IntegrityError:
        raise Problem(
            "conflict", "a drill is under way in this organization; wait for it or abort it"
        ) from None
    after = {"kind": kind, "target": target, "deployment": drill.deployment, "method": method}
    audit_record(actor=actor, action="started", subject=drill, after={**after, "accept_risk": accept_risk})
    drill.refresh_from_db()
    return drill


def _driver_check(driver: str, method: str, fault_s: float, limits: DrillLimits) -> None:
    """Raises Problem ``invalid_document`` for what its driver can't do, or not in that time."""
    if driver == DrillDriver.PLANE and method != "weights":
        raise field_problem("/driver", "can't break anything", value=driver, remedy="use method weights")
    needed_s = fault_s + (2 * AROUND_S if driver == DrillDriver.PLANE else 0)
    if limits.duration_s_max <= needed_s:
        remedy = f"give more than {needed_s:.0f}, or a shorter fault_s"
        raise field_problem(
            "/limits/duration_s_max", "is over too early", value=limits.duration_s_max, remedy=remedy
        )
