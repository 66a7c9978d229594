"""Notice files and providers' answers, as they are documented and as they should never be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloadplane.agent.notices.parsing import (
    NOTICES_MAX,
    Place,
    aws_notices,
    azure_notices,
    file_notices,
    gcp_notices,
)
from workloadplane.protocol.observed import Notice
from workloadplane.protocol.refusal import Refusal

SPOT = Place("spot", "node-1")
SEEN_AT = 1893456000.0  # 2030-01-01 00:00 UTC
AWS = b'{"action": "terminate", "time": "2030-01-01T00:02:00Z"}'
AZURE = {
    "DocumentIncarnation": 2,
    "Events": [
        {
            "EventId": "f020ba2e-3bc0-4c40-a10b-86575a9eabd5",
            "EventStatus": "Scheduled",
            "EventType": "Preempt",
            "ResourceType": "VirtualMachine",
            "Resources": ["node-1", "node-2"],
            "NotBefore": "Tue, 01 Jan 2030 00:00:30 GMT",
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        },
        {"EventId": "2", "EventType": "Freeze", "Resources": ["node-1"], "NotBefore": ""},
    ],
}


def deadlines(found: tuple[Notice, ...] | Refusal) -> list[tuple[str | None, float]]:
    assert not isinstance(found, Refusal), found
    return [(each.node, each.deadline_at - SEEN_AT) for each in found]


def test_a_file_says_what_it_says() -> None:
    (first, second) = file_notices(  # type: ignore[misc]
        b'{"notices": [{"pool": "spot", "node": "node-1", "deadline_at": "2030-01-01T01:02:00+01:00",'
        b' "reason": "tests", "provider": "aws"}, {"pool": "other", "deadline_at": 1893456030}]}'
    )
    assert first == Notice(
        pool="spot", node="node-1", deadline_at=SEEN_AT + 120, reason="tests", provider="aws"
    )
    assert (second.pool, second.node, second.deadline_at) == ("other", None, SEEN_AT + 30)
    assert file_notices(b'{"notices": []}') == ()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "truncated"),
        (b'{"notices": [{"pool": "spot"}]}', "deadline_at"),
        (b'{"notices": [{"pool": "spot", "deadline_at": "soon"}]}', "RFC3339"),
        (b'{"notices": [{"pool": "spot", "deadline_at": "2030-01-01T00:00:00"}]}', "its time zone"),
        (b'{"notices": [{"pool": "spot", "deadline_at": -1}]}', "-1"),
        (b'{"notices": [{"pool": "", "deadline_at": 1}]}', "names"),
        (b'{"notices": [{"pool": "spot", "deadline_at": 1, "pod": "x"}]}', "pod"),
        (b"[" * 5000, "notices"),
        (
            json.dumps({"notices": [{"pool": "p", "deadline_at": 1}] * (NOTICES_MAX + 1)}).encode(),
            str(NOTICES_MAX),
        ),
    ],
)
def test_a_file_that_says_nothing_clear_is_refused(content: bytes, told: str) -> None:
    """What is wrong, or what to write."""
    found = file_notices(content)
    assert isinstance(found, Refusal)
    assert told in str(found)


def test_aws_names_the_moment() -> None:
    """Never later than its two minutes, whatever our clock says."""
    assert deadlines(aws_notices(AWS, SPOT, seen_at=SEEN_AT)) == [("node-1", 120.0)]
    assert deadlines(aws_notices(AWS, SPOT, seen_at=SEEN_AT + 30)) == [("node-1", 120.0)]
    assert deadlines(aws_notices(AWS, SPOT, seen_at=SEEN_AT - 300)) == [("node-1", -180.0)]


def test_gcp_gives_thirty_seconds_and_an_hour_for_maintenance() -> None:
    def found(preempted: bytes, event: bytes) -> list[tuple[str | None, float]]:
        return deadlines(gcp_notices(preempted, event, SPOT, seen_at=SEEN_AT))

    assert found(b"FALSE", b"NONE") == []
    assert found(b"FALSE", b"MIGRATE_ON_HOST_MAINTENANCE") == []
    assert found(b"TRUE\n", b"NONE") == [("node-1", 30.0)]
    assert found(b"FALSE", b"TERMINATE_ON_HOST_MAINTENANCE") == [("node-1", 3600.0)]


def test_azure_tells_of_all_machines_of_a_scale_set() -> None:
    """Each is a node; an endpoint that stands for one counts that alone. What is only frozen stays."""
    body = json.dumps(AZURE).encode()
    assert deadlines(azure_notices(body, Place("spot", None), seen_at=SEEN_AT)) == [
        ("node-1", 30.0),
        ("node-2", 30.0),
    ]
    assert deadlines(azure_notices(body, SPOT, seen_at=SEEN_AT)) == [("node-1", 30.0)]
    begun = json.dumps({"Events": [{**AZURE["Events"][0], "NotBefore": ""}]}).encode()  # type: ignore[index]
    assert deadlines(azure_notices(begun, SPOT, seen_at=SEEN_AT)) == [("node-1", 0.0)]
    assert azure_notices(b'{"DocumentIncarnation": 1, "Events": []}', SPOT, seen_at=SEEN_AT) == ()


@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode), cut=st.integers(0, 600))
def test_nothing_that_is_answered_raises(body: bytes, cut: int) -> None:
    for content in (body, AWS[:cut], json.dumps(AZURE).encode()[:cut]):
        file_notices(content)
        aws_notices(content, SPOT, seen_at=SEEN_AT)
        gcp_notices(content, content, SPOT, seen_at=SEEN_AT)
        azure_notices(content, SPOT, seen_at=SEEN_AT)
