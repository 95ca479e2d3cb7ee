"""NHN: documents by ITI-65, and their security labels."""
