"""Does a plan keep the rules and its promises, and what would be left if something were lost?

``certificate.certify`` judges any plan, ``survive.survive`` tells what a loss would do to it. Own arithmetic: never
imports ``rules``, ``greedy``, ``search`` or ``questions``, only what a problem and a plan are.
"""
