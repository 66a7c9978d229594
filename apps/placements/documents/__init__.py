"""Plans as they are told: the shape of each document, and the one place where it is made of the pure room's values.

Only what the asker may see: the own project's deployments; other projects' are counted in the money alone, and only for
who operates the organization.
"""

from apps.placements.asker import Asker, asker_of
from apps.placements.comparisons import Spending, spending
from apps.placements.documents.certificates import CertificateSerializer, certificate_document
from apps.placements.documents.diffs import (
    PlanDiffSerializer,
    WhatIfAnswerSerializer,
    diff_document,
    what_if_document,
)
from apps.placements.documents.money import (
    BoundSerializer,
    CostSerializer,
    bound_document,
    cost_document,
    sums_of_field,
)
from apps.placements.documents.plans import (
    PlannedDeploymentSerializer,
    entry_document,
    names_of_project,
    smallest_change_document,
    smallest_change_wanted,
)
from apps.placements.documents.survivals import SurvivalSerializer, survival_document

__all__ = [
    "Asker",
    "BoundSerializer",
    "CertificateSerializer",
    "CostSerializer",
    "PlanDiffSerializer",
    "PlannedDeploymentSerializer",
    "Spending",
    "SurvivalSerializer",
    "WhatIfAnswerSerializer",
    "asker_of",
    "bound_document",
    "certificate_document",
    "cost_document",
    "diff_document",
    "entry_document",
    "names_of_project",
    "smallest_change_document",
    "smallest_change_wanted",
    "spending",
    "sums_of_field",
    "survival_document",
    "what_if_document",
]
