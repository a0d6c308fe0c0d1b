"""Telling a server from a folder. Loads nothing: every store that is opened asks this first."""

from __future__ import annotations


def is_url(project: object) -> bool:
    """Whether a project is a server's, and no folder."""
    return isinstance(project, str) and project.lower().startswith(("http://", "https://"))
