"""What every test shares: no skips where the machine is said to have everything, and signals as a shell leaves them."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest

# Whoever starts this in the background has SIGINT ignored, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where INNKEEPER_TEST_NO_SKIP says that nothing is missing."""
    report = yield
    if os.environ.get("INNKEEPER_TEST_NO_SKIP") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although INNKEEPER_TEST_NO_SKIP is set: {reason}"
    return report
