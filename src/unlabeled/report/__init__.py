"""Pages, plots and tables of metrics."""
