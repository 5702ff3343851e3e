"""Rows of the fact sheet: run a check, print one verdict line for the runner."""

import sys
import traceback


def row(name, check):
    """Runs `check`; the line `ROW <name> passed` or `ROW <name> FAILED <why>` is what the runner reads."""
    try:
        check()
    except BaseException as error:  # a check may fail in any way
        traceback.print_exc()
        print(f"ROW {name} FAILED {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
    else:
        print(f"ROW {name} passed", flush=True)
    sys.stderr.flush()


def same(what, expected, found):
    """Compares two values."""
    assert expected == found, f"{what}: expected {expected!r}, found {found!r}"


def raises(kind, work):
    """Returns the exception of `kind` that `work` must raise."""
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
