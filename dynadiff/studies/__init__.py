"""The tables of the documentation, remade by `dynadiff study`, a module each. Nothing below knows them."""
