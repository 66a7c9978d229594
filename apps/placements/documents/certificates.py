"""What a plan survives, as it is told."""

from typing import Any

from rest_framework import serializers

from controlplane.placement import Certificate, Loss

#: So many broken promises are told one by one; the rest is counted.
BROKEN_TOLD = 100


class LossSerializer(serializers.Serializer[Any]):
    """What the loss of one failure domain does to one deployment."""

    deployment = serializers.CharField()
    domain_kind = serializers.CharField()
    domain = serializers.CharField()
    replicas_needed = serializers.IntegerField()
    replicas_left = serializers.IntegerField()
    margin = serializers.IntegerField()
    recovery_s = serializers.FloatField(
        allow_null=True, help_text="Longest known cold start; null: not measured."
    )
    promised = serializers.BooleanField()
    verdict = serializers.ChoiceField(choices=["survives", "degraded", "lost"])


class CertificateSerializer(serializers.Serializer[Any]):
    """What the plan survives, by a judge that shares nothing with the solver."""

    holds = serializers.BooleanField()
    broken_promises = serializers.ListField(
        child=serializers.CharField(), help_text=f"At most {BROKEN_TOLD} of them."
    )
    broken_promises_count = serializers.IntegerField()
    losses = LossSerializer(many=True)


def certificate_document(certificate: Certificate, *, deployment_ids: set[str]) -> dict[str, Any]:
    """A certificate, with the losses of some deployments."""
    return {
        "holds": certificate.holds,
        "broken_promises": list(certificate.broken_promises[:BROKEN_TOLD]),
        "broken_promises_count": len(certificate.broken_promises),
        "losses": [_loss(loss) for loss in certificate.losses if loss.deployment_id in deployment_ids],
    }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "deployment": loss.deployment,
        "domain_kind": loss.domain.kind,
        "domain": loss.domain.name,
        "replicas_needed": loss.replicas_needed,
        "replicas_left": loss.replicas_left,
        "margin": loss.margin,
        "recovery_s": loss.recovery_s,
        "promised": loss.promised,
        "verdict": loss.verdict,
    }
