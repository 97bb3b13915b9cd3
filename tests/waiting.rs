//! Waiting for a step of a run that goes on beside the test.

use std::process::Child;
use std::time::Duration;

use crate::lab::Lab;

/// Waits for a file that a step makes in the workspace, for as long as the run lives: an emulated machine is slow.
#[track_caller]
pub fn wait_for_file(lab: &Lab, run: &mut Child, name: &str) {
    let path = lab.context.work().join(name);
    while !path.exists() {
        assert!(matches!(run.try_wait(), Ok(None)), "the run ended before a step made {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
