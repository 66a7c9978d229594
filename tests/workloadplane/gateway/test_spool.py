"""The spool that lies between a gateway and its agent."""

import subprocess
import sys
from pathlib import Path

import msgspec
from structlog.testing import capture_logs

from tests.support.records import usage_record
from workloadplane.protocol.spool import SpoolReader, SpoolWriter
from workloadplane.protocol.usage import LATENCY_BUCKETS_S, LatencyHistogram, MetricWindow, UsageRecord

EMPTY = LatencyHistogram(counts=(0,) * (len(LATENCY_BUCKETS_S) + 1), sum_s=0.0)


def usage(writer: SpoolWriter) -> UsageRecord:
    return usage_record(writer.gateway_instance, writer.next_usage_sequence())


def window(writer: SpoolWriter) -> MetricWindow:
    return MetricWindow(
        gateway_instance=writer.gateway_instance,
        sequence=writer.next_window_sequence(),
        started_at=0.0,
        ended_at=10.0,
        deployment_id="d",
        revision_id="rev",
        requests=1,
        errors=0,
        input_tokens=1,
        output_tokens=1,
        in_flight_max=1,
        waiting_max=0,
        ttft=EMPTY,
        inter_token_latency=EMPTY,
        duration=EMPTY,
    )


def sequences(reader: SpoolReader, limit: int = 1000) -> list[int]:
    return [record.sequence for record in reader.pending(limit).usage]


def test_records_are_delivered_until_acknowledged(tmp_path: Path) -> None:
    """What is not acknowledged is delivered again, in order, also by a reader that starts anew."""
    writer = SpoolWriter(tmp_path, "g1")
    for _ in range(5):
        writer.append_usage(usage(writer))
    writer.append_window(window(writer))
    writer.flush(0.0)
    reader = SpoolReader(tmp_path)
    assert sequences(reader, 3) == [1, 2, 3]
    assert sequences(reader) == [1, 2, 3, 4, 5]
    assert len(reader.pending(1000).windows) == 1
    reader.acknowledge("g1", usage_sequence=2, window_sequence=1)
    batch = reader.pending(1000)
    assert [record.sequence for record in batch.usage] == [3, 4, 5]
    assert batch.windows == ()
    assert sequences(SpoolReader(tmp_path)) == [1, 2, 3, 4, 5]


def test_segments_are_deleted_once_acknowledged_and_the_directory_with_its_writer(tmp_path: Path) -> None:
    """The disk holds no more than what is unacknowledged, and nothing of a finished instance."""
    writer = SpoolWriter(tmp_path, "g1")
    for step in range(3):
        writer.append_usage(usage(writer))
        writer.flush(step * 100.0)
        writer.flush(step * 100.0 + 61)
    reader = SpoolReader(tmp_path)
    assert sequences(reader) == [1, 2, 3]
    reader.acknowledge("g1", usage_sequence=2)
    assert not (tmp_path / "g1" / "00000001.jsonl").exists()
    assert (tmp_path / "g1" / "00000003.jsonl").exists()
    reader.acknowledge("g1", usage_sequence=3)
    assert (tmp_path / "g1").exists(), "its writer lives"
    writer.append_usage(usage(writer))
    writer.close(1000.0)
    assert sequences(reader) == [4]
    reader.acknowledge("g1", usage_sequence=4)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    """A gateway killed in the middle of a write costs its last record only; the rest is delivered."""
    writer = SpoolWriter(tmp_path, "g1")
    writer.append_usage(usage(writer))
    writer.append_usage(usage(writer))
    writer.close(0.0)
    segment = tmp_path / "g1" / "00000001.jsonl"
    segment.write_bytes(segment.read_bytes()[:-20])
    reader = SpoolReader(tmp_path)
    assert sequences(reader) == [1]
    reader.acknowledge("g1", usage_sequence=1)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_is_told_and_the_others_are_delivered(tmp_path: Path) -> None:
    """A record that the disk has spoilt is not lost in silence."""
    writer = SpoolWriter(tmp_path, "g1")
    writer.append_usage(usage(writer))
    writer.append_usage(usage(writer))
    writer.close(0.0)
    segment = tmp_path / "g1" / "00000001.jsonl"
    first, second = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first.replace(b"{", b"#") + second)
    with capture_logs() as logs:
        assert sequences(SpoolReader(tmp_path)) == [2]
    (told,) = logs
    assert (told["log_level"], told["gateway_instance"], told["segment"]) == ("warning", "g1", 1)


def test_a_killed_writer_leaves_its_records_and_no_lock(tmp_path: Path) -> None:
    """kill -9 after a flush loses nothing, and the agent can tell that the instance is dead."""
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from workloadplane.protocol.spool import SpoolWriter\n"
        "from tests.workloadplane.gateway.test_spool import usage\n"
        "writer = SpoolWriter(Path(sys.argv[1]), 'g9')\n"
        "[writer.append_usage(usage(writer)) for _ in range(100)]\n"
        "writer.flush(0.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert result.returncode == -9
    reader = SpoolReader(tmp_path)
    assert sequences(reader) == list(range(1, 101))
    reader.acknowledge("g9", usage_sequence=100)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_costs_nothing_until_the_buffer_is_full(tmp_path: Path) -> None:
    """While the disk refuses, records wait in memory; past the bound the newest is dropped, without a gap."""
    line = len(msgspec.json.encode(usage(SpoolWriter(tmp_path, "g0")))) + 40
    writer = SpoolWriter(tmp_path, "g1", buffer_bytes_max=line * 3)
    for _ in range(6):
        writer.append_usage(usage(writer))
    kept = writer.next_usage_sequence() - 1
    assert 0 < kept < 6
    assert writer.lost_records == 6 - kept
    writer.flush(0.0)
    writer.append_usage(usage(writer))
    writer.flush(0.0)
    assert sequences(SpoolReader(tmp_path)) == list(range(1, kept + 2))


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    """Nobody but the owner reads who used what."""
    writer = SpoolWriter(tmp_path / "spool", "g1")
    writer.append_usage(usage(writer))
    writer.flush(0.0)
    for path in (tmp_path / "spool").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
