"""Model cards, publishing of runs on the Hub, and reports of scans with a published model."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "card": ["write_model_card"],
        "reporting.load": ["load_reporter"],
        "reporting.reporter": ["Reporter", "ScanReport"],
    },
)
