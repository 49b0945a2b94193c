"""One method, one file. Put another beside them and its flags, help and tests follow."""
