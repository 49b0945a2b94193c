"""Methods, one a file; a new file here is listed, gets flags and is held to the contract."""
