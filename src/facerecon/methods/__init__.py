"""The methods that Table 1 and Figures 8 and 10 compare."""
