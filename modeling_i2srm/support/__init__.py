"""Modules that several folders share: atomic files, errors and signals, detectors, figures, processes."""
