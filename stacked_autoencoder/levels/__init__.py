"""A level of a stack, its kinds, and the stack of them."""
