import sys

#: structlog loads it, 5 MB of it, to colour what a process that logs JSON never writes; nothing else here uses it.
sys.modules["rich"] = None  # type: ignore[assignment]

from workloadplane.gateway.main import main  # noqa: E402

sys.exit(main())
