"""What several folders share: atomic files, faults, detectors, figures, processes."""
