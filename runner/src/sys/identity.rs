//! Inherited argv and environment bytes: overwritten, because `/proc/1/cmdline` is readable in a step.

#![expect(unsafe_code, reason = "writes over the process's own argument area")]

/// Overwrites the bytes of argv and of the environment that the kernel copied into this process at
/// its exec, so that neither `/proc/PID/cmdline` nor `/proc/PID/environ` shows the keeper's.
///
/// Only the zygote calls this, first thing after its fork: nothing there reads either again.
/// The ranges are `arg_start` to `env_end` of proc_pid_stat(5), fields 48-51. What cannot be read is left.
pub fn forget_arguments() {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    // The command in field 2 may hold spaces and brackets: count from behind its end.
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let fields: Vec<usize> =
        rest.split_whitespace().skip(45).take(4).filter_map(|f| f.parse().ok()).collect();
    let &[arg_start, arg_end, env_start, env_end] = fields.as_slice() else { return };
    for (start, end) in [(arg_start, arg_end), (env_start, env_end)] {
        if start != 0 && end > start {
            // SAFETY: the kernel reports this range as the process's own argument pages on its stack,
            // mapped and writable; no Rust reference points into it in the zygote.
            unsafe {
                std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start)
            };
        }
    }
}
