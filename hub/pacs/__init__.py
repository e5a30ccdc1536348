"""From a PACS and back: a series comes by DICOMweb, and its report and masks go as DICOM documents or as FHIR."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fhir": ["make_diagnostic_report"],
        "retrieve": ["choose_series", "retrieved_series"],
        "segmentation": ["make_segmentation"],
        "server": ["DicomWebServer", "PacsError"],
        "store": ["store_instance"],
        "structured_report": ["make_structured_report"],
    },
)
