//! Root filesystems: references, downloads, unpacking, the store. No mounts, no processes.
