"""Re-rankers: what orders the documents of a run anew. All of them keep every candidate and say each one's score."""
