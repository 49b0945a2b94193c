"""Networks from images to features. Any module from (B, C, H, W) to (B, dim) works as well."""
