"""One directory as a durable log: the files, the fair lock, group commit, batches, topics, and who is here."""
