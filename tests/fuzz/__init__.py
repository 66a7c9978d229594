"""Bytes from strangers, made up by a fuzzer that looks at what code they reach.

    make fuzz                                  all targets, FUZZ_RUNS executions together
    python -m tests.fuzz reader -runs=100000   one target; options are libFuzzer's

``targets`` says what must hold for any bytes at all, ``strict`` reads HTTP a second time by other means. What was
found once is kept under ``corpus`` and replayed by the tests.
"""
