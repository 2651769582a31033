"""From texts to token ids: prompts, the literal tokenizer, and the budget of the listwise prompt."""
