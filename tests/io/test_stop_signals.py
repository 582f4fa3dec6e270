"""Signals that ask a run to end."""

import signal

import pytest

from mnemask.io.stop_signals import StopSignals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_heard_ends_a_wait_and_is_left_to_who_had_it_before(number, code):
    before, waits_ended = signal.getsignal(number), []
    with StopSignals(lambda: waits_ended.append(number)) as asked:
        assert (asked(), asked.exit_code) == (None, 0)
        signal.raise_signal(number)
        assert (asked(), asked.exit_code, waits_ended) == (number.name, code, [number])
    assert signal.getsignal(number) is before
