"""Everything before the first matrix product: survey files in, a store of trusted spectra out."""
