"""Streams the text of a model to the terminal."""

from transformers import TextStreamer

from ct_rate_pairs.shown_text import for_terminal


class TerminalStreamer(TextStreamer):
    """A [`~transformers.TextStreamer`] that shows unseen characters, such as those of a terminal, as escapes."""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Prints the next part of the text."""
        super().on_finalized_text(for_terminal(text), stream_end)
