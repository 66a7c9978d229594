"""The cause of an end, found in a log."""

from workloadplane.agent.last_words import cause_in

CHAIN = """\
(APIServer pid=1) WARNING 11-24 11:41:54 [utils.py:255] Found ulimit of 20000; errors like `OSError: [Errno 24]`
(Worker pid=3) ERROR 11-24 11:42:28 [executor.py:1063] Traceback (most recent call last):
(Worker pid=3) ERROR 11-24 11:42:28 [executor.py:1063]     raise exc.CompileError(cmd, output) from e
(Worker pid=3) ERROR 11-24 11:42:28 [executor.py:1063] torch.exc.InductorError: CompileError: no compiler
RuntimeError: Engine core initialization failed. See root cause above.
resource_tracker.py:254: UserWarning: leaked shared_memory objects
  warnings.warn('resource_tracker: There appear to be %d '
"""


def test_the_first_exception_is_the_cause() -> None:
    """Not the last one of the chain, not a warning that only mentions one."""
    assert cause_in(CHAIN) == "torch.exc.InductorError: CompileError: no compiler"


def test_without_an_exception_the_last_line_must_do() -> None:
    """And with nothing, nothing; never more than a line's worth."""
    assert cause_in("usage: engine\nengine: error: unrecognized arguments: --nope\n\n") == (
        "engine: error: unrecognized arguments: --nope"
    )
    assert cause_in("") == ""
    assert len(cause_in("ValueError: " + "x" * 5000)) == 300
