"""The command `geode`: the shell, scripts, and how results are shown."""
