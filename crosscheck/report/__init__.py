"""What was compared, as people read it: progress and table, page, JSON."""
