"""Tables, colours and progress bars, around texts that a terminal must not obey."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from engine.terminal import cleaned


class Terminal(Console):
    """A console that cleans all text; styles and movements of the cursor are rich's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """See :class:`rich.console.Console`, which drops some of what is written out here."""
        return super().render_str(cleaned(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See :class:`rich.console.Console`, which passes everything through here."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            # A name in brackets may be markup, of which a link alone does any harm.
            style = style.update_link() if style and style.link else style
            yield segment if control else Segment(cleaned(text), style)
