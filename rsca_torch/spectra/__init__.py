"""What a spectrum is: flux, error, validity, wavelength and star table; blocks of stars, read from memory or disk."""
