"""What a report says: its labels, its sentences, the places of its findings, and its statements made wrong."""
