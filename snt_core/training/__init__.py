"""How a net is trained: recipe, loop, device, ranks."""
