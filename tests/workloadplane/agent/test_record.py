"""What an agent tells gateways of a replica."""

from tests.workloadplane.agent.conftest import assignment
from workloadplane.agent.record import facts_of
from workloadplane.protocol.desired import EngineSource


def test_a_replica_is_given_as_many_requests_as_it_computes() -> None:
    """The bound is that of the engine that truly runs: a substitute does not take the image's arguments."""
    engine = EngineSource(
        engine="vllm", version="0.32.0", image_digest="sha256:" + "1" * 64, arguments={"max_num_seqs": "8"}
    )
    wanted = assignment(engine=engine)
    for truly, bound in (("vllm", 8), ("simulator", 64), ("nim", 0)):
        facts = facts_of(wanted, replica_id="r", engine=truly, now=0.0, restarts=0)
        assert facts.max_in_flight == bound
