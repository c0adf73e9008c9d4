"""How honest any model's answers are: readers of logs, tables and models, and the measures of what they give."""
