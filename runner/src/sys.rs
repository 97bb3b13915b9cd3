//! The only `unsafe` of the project: thin typed wrappers over system calls that return errno. No policy, no wording.
