"""The page on which a released model reports scans and answers questions about them: `ct-rate-pairs app`."""
