//! The job file: text in, values out. No files, network, clock or environment.
