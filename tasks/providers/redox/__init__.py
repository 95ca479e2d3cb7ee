"""Redox: a document as a FHIR message, its file inside or uploaded before."""
