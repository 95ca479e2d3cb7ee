"""The watched folder: claims each settled file and opens its job."""
