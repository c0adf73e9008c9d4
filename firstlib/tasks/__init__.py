"""Tasks: questions, their prompts and tokens, real data sets, and the microworld that generates questions."""
