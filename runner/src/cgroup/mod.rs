//! Room cgroup.
