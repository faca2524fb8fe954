"""Parquet -> batches: data sets, collator, feature cache, mismatched pictures."""
