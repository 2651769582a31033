"""The notebooks of cookbook/, executed."""
