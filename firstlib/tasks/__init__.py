"""What models are asked and taught: questions, their prompts and tokens, and the microworld that makes them."""
