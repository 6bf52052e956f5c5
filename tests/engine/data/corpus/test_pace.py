"""Progress bars of steps say how many documents they have seen, and how fast."""

from __future__ import annotations

from engine.data.corpus import pace


def test_a_step_s_speed_counts_from_the_last_that_was_told(monkeypatch):
    """As a step is first told of when its first part is done."""
    now = 100.0
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    told = []
    tell = pace.Pace(lambda *given: told.append(given), 2000, 50_000_000)
    now = 101.0
    tell("read", 1, 1, "")
    now = 103.0
    tell("judge", 1, 5, "")
    now = 105.0
    tell("judge", 5, 5, "")
    assert told == [
        ("read", 1, 1, "2,000 documents, 50.0 MB/s"),
        ("judge", 1, 5, "400 documents, 5.0 MB/s"),
        ("judge", 5, 5, "2,000 documents, 12.5 MB/s"),
    ]
