"""Lines that no serialiser would write, read by ours and by a plain parser: they must say the same."""
