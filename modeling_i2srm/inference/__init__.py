"""Posts -> answers: Extractor, explanations, pages, whole corpora."""
