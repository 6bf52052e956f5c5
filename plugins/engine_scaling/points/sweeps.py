"""What the runs of a ladder are that no law should be fitted to: a sweep says so in its folder."""

from __future__ import annotations

from pathlib import Path

from engine import SpecError, read_json

ROLES = "roles.json"
"""File in a sweep's folder: a role for each run that is no rung of the ladder."""
TEXT, SPEED, HELD_OUT = "text", "speed", "held out"
REASONS = {
    TEXT: "it holds the text of its sweep",
    SPEED: "its sweep measured the speed by it",
    HELD_OUT: "its sweep holds it out; name this run to fit it, too",
}
"""Roles, each with the reason why a run is left out."""


def role_of(run: Path) -> str | None:
    """The role of a run in the sweep whose folder it is in; None for a rung, and outside of sweeps.

    Raises SpecError for a damaged file of roles.
    """
    place = run.resolve()
    file = place.parent.parent / ROLES
    if not file.exists():
        return None
    try:
        roles: dict[str, str] = read_json(file)
        role = roles.get(place.name)
        if role is not None and role not in REASONS:
            raise ValueError(f"'{role}' is no role")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{file}: is damaged ({error})", hint="repeat the sweep's command: it is made again"
        ) from error
    return role
