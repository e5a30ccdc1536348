"""From a scan to a report with confidence and evidence."""
