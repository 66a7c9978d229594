"""Writing plans and assignments: load, decide, apply."""

from apps.placements.comparisons import Comparison
from apps.placements.services.assignments_end import assignments_end
from apps.placements.services.assignments_settle import assignments_drain, assignments_settle
from apps.placements.services.demand_notice import demand_notice, demand_refresh
from apps.placements.services.hazards_learn import hazards_learn
from apps.placements.services.placement_apply import Adoption, placement_apply
from apps.placements.services.placement_decide import Decision, placement_decide
from apps.placements.services.placement_load import placement_load
from apps.placements.services.placement_preview import Preview, placement_preview
from apps.placements.services.placement_request import placement_request
from apps.placements.services.placement_what_if import placement_what_if
from apps.placements.services.placements_improve import placements_improve
from apps.placements.services.placements_reconcile import placements_reconcile
from apps.placements.services.placements_solve import placements_solve
from apps.placements.services.plan_in_force import InForce, plan_in_force
from apps.placements.services.plans_compare import plans_compare

__all__ = [
    "Adoption",
    "Comparison",
    "Decision",
    "InForce",
    "Preview",
    "assignments_drain",
    "assignments_end",
    "assignments_settle",
    "demand_notice",
    "demand_refresh",
    "hazards_learn",
    "placement_apply",
    "placement_decide",
    "placement_load",
    "placement_preview",
    "placement_request",
    "placement_what_if",
    "placements_improve",
    "placements_reconcile",
    "placements_solve",
    "plan_in_force",
    "plans_compare",
]
