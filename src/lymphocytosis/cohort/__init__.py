"""Reading a cohort: its clinical table and its folders of pictures."""
