"""What a user meets: the examples of the documents, and the wheel."""
