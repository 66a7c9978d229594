import socket

from workloadplane.runtimes.ports import FIRST_PORT, PORTS, free_port


def test_a_port_is_free_and_nobody_elses() -> None:
    """Neither one that was given to another replica nor one that something listens on."""
    first = free_port("r-1", host="127.0.0.1", taken=())
    assert first is not None
    assert FIRST_PORT <= first < FIRST_PORT + PORTS
    second = free_port("r-1", host="127.0.0.1", taken={first})
    assert second is not None
    assert second != first
    with socket.create_server(("127.0.0.1", second)):
        assert free_port("r-1", host="127.0.0.1", taken={first}) not in (first, second, None)


def test_no_port_left_is_said() -> None:
    """With all of them taken there is none."""
    assert free_port("r-1", host="127.0.0.1", taken=range(FIRST_PORT, FIRST_PORT + PORTS)) is None
