"""The subcommands of `facerecon`, one module each."""
