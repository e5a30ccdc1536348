"""Files of generated reports, and the record of what each file was made with."""
