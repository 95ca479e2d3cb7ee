"""What a competent engineer would write for the same documents without chartpost's promises."""
