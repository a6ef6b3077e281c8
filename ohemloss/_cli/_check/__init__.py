"""The command `check`: every installed library on this machine, compared with a reference."""
