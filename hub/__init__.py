"""Runs to the Hub and back: cards, publishing, and reports from scans with a released model."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "card": ["write_model_card"],
        "reporting.load": ["load_reporter"],
        "reporting.reporter": ["Reporter", "ScanReport"],
    },
)
