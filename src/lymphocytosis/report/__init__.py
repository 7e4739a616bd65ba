"""The report: templates, and what fills them."""
