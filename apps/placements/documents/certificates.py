"""What a plan survives, as it is told."""

from typing import Any

from rest_framework import serializers

from apps.api.money import usd
from controlplane.placement import Certificate, Loss

#: So many broken promises are told one by one; the rest is counted.
BROKEN_TOLD = 100


class LossSerializer(serializers.Serializer[Any]):
    """What the loss of one failure domain does to one deployment."""

    deployment = serializers.CharField()
    domain_kind = serializers.CharField()
    domain = serializers.CharField()
    requests_per_s = serializers.FloatField(help_text="The demand planned for; 0: none is known.")
    tokens_per_s = serializers.FloatField(help_text="Likewise, output tokens.")
    share_left = serializers.FloatField(help_text="Capacity left, as a share of the demand planned for.")
    margin_share = serializers.FloatField(help_text="Capacity beyond that demand; negative: it lacks.")
    replicas_needed = serializers.IntegerField()
    replicas_left = serializers.FloatField(help_text="Spot replicas count with their chance to live.")
    margin = serializers.FloatField(help_text="Replicas left beyond those needed.")
    recovery_s = serializers.FloatField(
        allow_null=True, help_text="Cold start of what would replace the lost part; null: not measured."
    )
    promised = serializers.BooleanField()
    verdict = serializers.ChoiceField(choices=["survives", "degraded", "lost"])


class DomainLossSerializer(serializers.Serializer[Any]):
    """What the loss of one failure domain does to all of the project's deployments together."""

    domain_kind = serializers.CharField()
    domain = serializers.CharField()
    served_share = serializers.FloatField(help_text="Of all demand, what would be served.")
    served_share_now = serializers.FloatField()
    touched = serializers.IntegerField(help_text="Deployments that have a part in it.")
    broken = serializers.IntegerField(help_text="Deployments that were promised to survive it and would not.")
    recovery_s = serializers.FloatField(allow_null=True)


class CertificateSerializer(serializers.Serializer[Any]):
    """What the plan survives, by a judge that shares nothing with the solver."""

    holds = serializers.BooleanField()
    sha256 = serializers.CharField(help_text="Of all that it says, of the problem and of the plan.")
    usd_per_h_promises = serializers.CharField(help_text="Rent of what stands there only for promises.")
    broken_rules = serializers.ListField(
        child=serializers.CharField(), help_text=f"Hard rules, at most {BROKEN_TOLD}."
    )
    broken_promises = serializers.ListField(
        child=serializers.CharField(), help_text=f"At most {BROKEN_TOLD} of them."
    )
    broken_promises_count = serializers.IntegerField()
    domains = DomainLossSerializer(many=True)
    losses = LossSerializer(many=True)


def certificate_document(certificate: Certificate, *, deployment_ids: set[str]) -> dict[str, Any]:
    """A certificate, with the losses of some deployments."""
    return {
        "holds": certificate.holds,
        "sha256": certificate.sha256,
        "usd_per_h_promises": usd(certificate.price_of_promises_micro_usd_per_h),
        "broken_rules": [str(rule) for rule in certificate.broken_rules[:BROKEN_TOLD]],
        "broken_promises": list(certificate.broken_promises[:BROKEN_TOLD]),
        "broken_promises_count": len(certificate.broken_promises),
        "domains": [
            {
                "domain_kind": row.domain.kind,
                "domain": row.domain.name,
                "served_share": row.served_share,
                "served_share_now": row.served_share_now,
                "touched": row.touched,
                "broken": len(row.broken),
                "recovery_s": row.recovery_s,
            }
            for row in certificate.domains
        ],
        "losses": [_loss(loss) for loss in certificate.losses if loss.deployment_id in deployment_ids],
    }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "deployment": loss.deployment,
        "domain_kind": loss.domain.kind,
        "domain": loss.domain.name,
        "requests_per_s": loss.requests_per_s,
        "tokens_per_s": loss.tokens_per_s,
        "share_left": loss.share_left,
        "margin_share": loss.margin_share,
        "replicas_needed": loss.replicas_needed,
        "replicas_left": loss.replicas_left,
        "margin": loss.margin,
        "recovery_s": loss.recovery_s,
        "promised": loss.promised,
        "verdict": loss.verdict,
    }
