"""What runs on a machine with a GPU that is lent for minutes, reaches no network, and forgets everything afterwards."""
