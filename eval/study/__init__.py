"""Many runs as one study: what is asked, what came out, and how it is told."""
