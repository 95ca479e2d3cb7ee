"""Any FHIR R4 server: a document as a DocumentReference in it, its bytes inline or as a Binary."""
