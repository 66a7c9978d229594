import sys

from workloadplane.gateway.main import main

sys.exit(main())
