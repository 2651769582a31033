"""Speed, measured side by side; nothing here is collected as a test."""
