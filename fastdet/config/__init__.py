"""The Experiment schema, the reader of config files, and the writer."""
