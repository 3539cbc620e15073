"""Objects: what tells one nucleus, lesion or tooth from the next one of the same label."""
