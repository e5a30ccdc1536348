"""
A phantom cohort with CT-RATE's layout: synthetic chest CT scans with all 18 abnormalities, and their reports, labels
and metadata.

Nothing in the cohort comes from a patient, so it may be published. The demo and the tests use it. Unlike in a real
cohort, the place of each finding is known: [`Scan.region`] gives the mask of the region that the report names. A scan
can also be rendered without one of its findings, by leaving out the label of the finding.
"""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"cohort": ["write_cohort"], "scan": ["Scan"]}
)
