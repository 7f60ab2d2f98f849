"""An app of another project: a model with many wide columns, long words and Japanese text."""
