"""What is answered now: the last accepted listing of each directory, where it is kept, how it is renewed."""
