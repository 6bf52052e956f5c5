"""Console for tables, colours and progress bars that escapes control characters in texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from engine.terminal.output import cleaned


class Terminal(Console):
    """A console that cleans all text; only rich itself can set styles and move the cursor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """See :class:`rich.console.Console`, which drops some characters that are escaped here."""
        return super().render_str(cleaned(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See :class:`rich.console.Console`, which renders everything through this method."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            # A name in brackets may be markup, which is harmless except for links.
            style = style.update_link() if style and style.link else style
            yield segment if control else Segment(cleaned(text), style)
