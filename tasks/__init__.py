"""Everything that happens to a document; runs in any process."""
