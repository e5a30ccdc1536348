"""What a training costs, before it is started: operations, memory, and what feeds the GPUs."""
