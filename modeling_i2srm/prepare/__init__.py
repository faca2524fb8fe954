"""Raw data -> Parquet: a module for each data set, and what they share."""
