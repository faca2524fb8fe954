"""Raw data -> Parquet: one module per data set, and the modules that they share."""
