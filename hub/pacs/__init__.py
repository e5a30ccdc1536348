"""From a PACS and back: a series comes by DICOMweb, and its report goes as a DICOM Structured Report or as FHIR."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fhir": ["make_diagnostic_report"],
        "retrieve": ["choose_series", "retrieved_series"],
        "server": ["DicomWebServer", "PacsError"],
        "store": ["store_instance"],
        "structured_report": ["make_structured_report"],
    },
)
