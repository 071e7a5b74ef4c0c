"""From many traces to the rows to train on, and what is in them (`s1 curate`, `s1 data`)."""
