"""The workers: each measures one framework, in a process and with a Python of its own."""
