"""`chartpost check`: one file for each subject."""
