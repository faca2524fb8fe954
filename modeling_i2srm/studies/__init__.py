"""Studies of the parts of the method and of the data: settings, runs, reports, significance tests, audits."""
