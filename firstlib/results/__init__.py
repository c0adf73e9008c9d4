"""What a finished run says: tables, comparisons, its report, its exported students."""
