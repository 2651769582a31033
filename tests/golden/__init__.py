"""Ids frozen from the reference: its formats as whole strings, encoded by Hugging Face's tokenizer."""
