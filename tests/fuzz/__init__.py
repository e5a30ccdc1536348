"""
Damaged and hostile inputs, made here by chance from sound ones. Each is read in a process of its own, with a limit of
memory and time. `make fuzz` runs 10,000 and prints what became of them; a fixed share runs with the other tests.
"""
