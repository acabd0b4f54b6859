"""What whoever asks for a table can put right."""

from __future__ import annotations

from adversary.common.errors import UserError


class PaperError(UserError, ValueError):
    """One line: which option, its value, and what is allowed."""
