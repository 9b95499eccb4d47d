"""How long something took, in words; without any package, as what looks at a bare machine is."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as a person says them: "0.4 s", "52 s", "3 min", "7 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h {minutes % 60} min"
