"""A trained system over HTTP, and on a page for the person at the microscope."""
