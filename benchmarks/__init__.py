"""minicnn against its peers: the same work, in turns.  README.md says what is measured, and how."""
