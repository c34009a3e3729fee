"""Recordings as plain data, in files, as DataFrames, on one clock: the waist, which knows neither C nor pictures."""
