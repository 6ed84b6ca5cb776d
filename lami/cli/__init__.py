"""The command `lami`: one module for each sub-command, imported only when it is asked for."""
