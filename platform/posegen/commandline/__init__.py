"""What the command line says without doing work: completion, help, where one stands. No torch, no Ray."""
