"""One file per op; one group per workload and dtype; one row per implementation."""
