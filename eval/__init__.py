"""From a model to reports, and from reports to numbers. Names are imported on first use: half of them need torch."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "generate": ["generate_reports"],
        "metrics.crg": ["crg"],
        "metrics.dice": ["mask_scores"],
        "metrics.label_metrics": ["coverage", "label_accuracy"],
        "metrics.text_metrics": ["text_scores"],
        "scoring.labelers": ["label_reports"],
        "scoring.scores": ["score_reports"],
        "tables": ["format_table"],
    },
)
