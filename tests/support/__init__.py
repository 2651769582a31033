"""What several tests need: real tokenizers and small models of the true architecture, built offline."""
