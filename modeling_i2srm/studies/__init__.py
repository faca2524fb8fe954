"""Studies of what each part does: settings, runs, reports, tests, audits."""
