"""What a benchmark leaves behind: targets, results as JSON, tables and figures."""
