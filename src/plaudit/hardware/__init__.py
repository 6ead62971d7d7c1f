"""The one room that knows devices, ranks and where random numbers come from."""
