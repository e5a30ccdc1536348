"""A phantom cohort in CT-RATE's tree: synthetic thoraces with all 18 abnormalities, reports, labels and metadata.

Nothing here comes from a patient, so the cohort may be published and serves the demo and the tests. It knows where
each finding is, which a real cohort never does: `Scan.region` gives the mask of the region that the report names, and
a scan without a finding is rendered by leaving its label out.
"""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"cohort": ["write_cohort"], "scan": ["Scan"]}
)
