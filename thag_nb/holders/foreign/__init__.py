"""Objects of libraries whose memory only the library can tell of: what each holds, or that nobody can see what."""
