"""What a report says: its labels, sentences, places, and statements turned into their opposite."""
